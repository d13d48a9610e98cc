"""Trained students as pipelines of diffusers, for people who only want pictures: drawn from in three lines.

    from fewstep.release import FewStepPipeline
    pipe = FewStepPipeline.from_pretrained("folder")
    images = pipe(num_inference_steps=1, batch_size=4, generator=torch.Generator().manual_seed(0)).images

`python -m fewstep save` writes such a folder, `python -m fewstep sample` draws from one. diffusers itself
opens it, without verifying checksums, where its pipeline.py, one import from this package, may be run:

    DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)

Beside a CPU wheel of torch, import fewstep.networks.torchvision_operators before diffusers.
"""

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from .network import FlowMapModel  # isort: skip
from .pipeline import FewStepPipeline, seeded

__all__ = ["FewStepPipeline", "FlowMapModel", "seeded"]
