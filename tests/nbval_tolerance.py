"""A pytest plugin: nbval compares what is printed and plotted as numbers, within tests/tolerances.py.

nbval compares text and skips pictures. Here the numbers are taken out of every output first, also out of the
data that a picture carries; nbval compares what is left letter by letter, and the numbers are compared as
numbers. Kernels start as the pipeline's do, as forks of a process that has the libraries, or each would
import them for seconds.
"""

from __future__ import annotations

import json
import re

import nbformat
import nbval.kernel
from jupyter_client.manager import KernelManager
from nbval.plugin import IPyNbCell

from fewstep.pipeline.notebooks import Forking
from tests.tolerances import close

NUMBER = re.compile(r"[-+]?(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w])")


def split(text: str) -> tuple[str, list[float]]:
    """`text` with every number replaced by # and white space collapsed, and the numbers.

    The checksum of trained weights is another wherever their rounding is: it is no result.
    """
    text = re.sub(r"\(sha256 [0-9a-f]{8}\)", "", text)
    numbers = [float(found.replace(",", "")) for found in NUMBER.findall(text)]
    return re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)), numbers


def mask(outputs: list[dict]) -> tuple[list[dict], list[float]]:
    """Outputs without their numbers, without stderr and without pictures' bytes; and the numbers in order."""
    masked, numbers = [], []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        fresh = {k: v for k, v in output.items() if k in ("output_type", "name")}
        if "text" in output:
            fresh["text"], found = split(output["text"])
            numbers += found
        if "data" in output:
            fresh["data"] = {}
            for kind, value in sorted(output["data"].items()):
                if kind.startswith("image/"):
                    continue
                text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
                fresh["data"][kind], found = split(text)
                numbers += found
        masked.append(nbformat.from_dict(fresh))
    return masked, numbers


class Forked(Forking, KernelManager):
    """nbval's kernel, with this process's own stderr, which pytest captures, in the place of one that is
    thrown away."""

    async def _async_pre_start_kernel(self, **options):
        options.pop("stderr", None)
        return await super()._async_pre_start_kernel(**options)


nbval.kernel.KernelManager = Forked
original = IPyNbCell.compare_outputs


def compare_outputs(self, test, ref, skip_compare=None):
    (test, ours), (ref, theirs) = mask(test), mask(ref)
    if not original(self, test, ref, skip_compare):
        return False
    wrong = [(a, b) for a, b in zip(ours, theirs) if not close(a, b)]
    if len(ours) == len(theirs) and not wrong:
        return True
    shown = (
        ", ".join(f"{a:g} instead of {b:g}" for a, b in wrong[:5])
        or f"{len(ours)} numbers instead of {len(theirs)}"
    )
    self.comparison_traceback = [f"numbers moved beyond tests/tolerances.py: {shown}"]
    return False


IPyNbCell.compare_outputs = compare_outputs
