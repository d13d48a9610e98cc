"""Trained students for people who only want pictures: saved as pipelines of diffusers, drawn from in three lines.

    from fewstep.release import FewStepPipeline
    pipe = FewStepPipeline.from_pretrained("folder")
    images = pipe(num_inference_steps=1, batch_size=4, generator=torch.Generator().manual_seed(0)).images

One that was trained with texts is told some: pipe("a red circle", ...), or a list with one text an image.
`python -m fewstep save` writes such a folder, `python -m fewstep sample` draws from one.

What diffusers itself makes of the folder (0.42): the index names the classes of this package by module and class
(fewstep.release.network, FlowMapModel); diffusers takes them from modules that have been imported, and never imports one
because a file names it. A pipeline's own class it looks for in diffusers alone. So DiffusionPipeline.from_pretrained(folder)
ends with an AttributeError, fewstep imported or not, and this works in either case, because the folder's pipeline.py is
one import from this package, which diffusers copies to its cache and runs when it is told to:

    DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)

It verifies no checksum. Beside a CPU wheel of torch diffusers is imported after fewstep.networks.torchvision_operators.
"""

from __future__ import annotations

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from .network import FlowMapModel  # isort: skip
from .pipeline import FewStepPipeline, seeded
from .scheduler import FlowMapScheduler
from .tokenizer import TextTokenizer

__all__ = ["FewStepPipeline", "FlowMapModel", "FlowMapScheduler", "TextTokenizer", "seeded"]
