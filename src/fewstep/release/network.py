"""A trained flow map as a model of diffusers: weights in safetensors, its network's settings in the config."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import networks
from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import ModelMixin  # isort: skip  by this name diffusers finds how a model of this module is loaded
from diffusers.configuration_utils import register_to_config

from ..flows.conditioning import Conditions, conditioned
from ..networks.load import load_flow_map
from ..storage.checkpoint import load_checkpoint
from .strict import Strict


class FlowMapModel(ModelMixin, Strict):
    """v_{s,t}(x), of a text where the network is `conditional`; its `flow_map` is what fewstep's own samplers take.

    settings  the network's kind and sizes, as in params.yaml
    shape     of one point, (channels, height, width)

    Raises ValueError for settings that describe no network, and for points that are no images.
    """

    @register_to_config
    def __init__(self, settings: dict[str, Any], shape: list[int]):
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"a pipeline draws images of shape (channels, height, width), and this network is for points of shape {tuple(shape)}"
            )
        try:
            self.flow_map = networks.build(settings, tuple(shape))
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"{dict(settings)} are no settings of a network ({error}): save the student again"
            ) from None

    @property
    def conditional(self) -> bool:
        """Whether the network is conditioned on texts."""
        return "conditions" in inspect.signature(self.flow_map.network.forward).parameters

    def forward(
        self,
        s: Tensor,
        t: Tensor,
        x: Tensor,
        texts: Conditions | None = None,
        empty: Conditions | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        """v_{s,t}(x), (batch, channels, height, width), of times (batch,).

        texts     the texts of a conditional network, one a point
        empty     the empty text, a batch of one, which `guidance` compares with; a scale of 1 is none
        """
        if texts is None:
            return self.flow_map.average_velocity(s, t, x)
        return conditioned(self.flow_map, texts, empty).guided(guidance).average_velocity(s, t, x)

    @classmethod
    def trained(cls, path: Path) -> FlowMapModel:
        """The flow map that a training has written to `path`, frozen; raises as `load_flow_map`."""
        flow_map, (_, info) = load_flow_map(path), load_checkpoint(path)
        model = cls(info["network"], info["shape"])
        model.flow_map.load_state_dict(flow_map.state_dict())
        return model.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> FlowMapModel:
        """As ModelMixin's, whose signature this is; raises ValueError for weights of another network, where diffusers may only warn."""
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, **kwargs | {"output_loading_info": True}
            )
            odd = [
                f"'{name}' is in one and not in the other"
                for name in (*info["missing_keys"], *info["unexpected_keys"])
            ]
        except ValueError as error:
            # how diffusers says that a tensor is of another shape
            found = re.search(r"because (\S+) expected shape", str(error))
            if not found:
                raise
            odd = [f"'{found[1]}' is of another shape"]
        if odd:
            raise ValueError(
                f"the weights in {pretrained_model_name_or_path} are of another network than {cls.config_name} there says ({odd[0]}): save the student again"
            )
        return model.requires_grad_(False)
