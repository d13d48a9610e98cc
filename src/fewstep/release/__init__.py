"""Trained students as pipelines of diffusers, for people who only want pictures: drawn from in three lines.

    from fewstep.release import FewStepPipeline
    pipe = FewStepPipeline.from_pretrained("folder")
    images = pipe(num_inference_steps=1, batch_size=4, generator=torch.Generator().manual_seed(0)).images

A student that is conditioned on captions takes a prompt: pipe("a red circle", ...), or a list with one an
image. `python -m fewstep save` writes such a folder, `python -m fewstep sample` draws from one. The project's
own formats are not needed to draw.

Through diffusers itself (0.42) the folder opens where its pipeline.py, one import from this package, may be
run:

    DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)

Without these two arguments it ends with an AttributeError, since diffusers looks for a pipeline's class in
diffusers alone. Either way it verifies no checksum. Beside a CPU wheel of torch, import
fewstep.networks.torchvision_operators before diffusers.
"""

from __future__ import annotations

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from .network import FlowMapModel  # isort: skip
from .pipeline import FewStepPipeline, seeded

__all__ = ["FewStepPipeline", "FlowMapModel", "seeded"]
