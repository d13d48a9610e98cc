"""torchvision beside a CPU build of torch: declare the two operators that its import looks for.

torchvision's Linux wheel is compiled against CUDA; beside a CPU wheel of torch it does not load its
operators, and `import torchvision` stops at the first. diffusers, transformers and clean-fid, which import
it, use neither: this module is imported before them.
"""

import sys

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARY: list[torch.library.Library] = []  # one that is collected takes its operators along


def declare() -> bool:
    """Make `import torchvision` work; returns whether operators had to be declared, which is done once."""
    try:
        import torchvision  # noqa: F401

        return False
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _LIBRARY.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in ("nms", "qnms"):
        _LIBRARY[0].define(name + SCHEMA)
    return True


declare()
