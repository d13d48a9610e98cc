"""A trained flow map as a model of diffusers: its weights, and in its config all that decides its images."""

from __future__ import annotations

import inspect
import re
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from .. import networks
from ..flows.conditioning import Conditions, conditioned, guided
from ..storage.files import mapping
from .folder import AGAIN

SAMPLERS = ("jumps", "euler")


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def whole(name: str, value: Any, most: int) -> int:
    """`value`; raises ValueError unless it is a whole number from 1 to `most`, numpy's included."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"`{name}` is a whole number from 1 to {most:,}, not {value!r}: change it")
    return int(value)


class Strict(ConfigMixin):
    """A ConfigMixin that refuses unknown and missing settings, where diffusers warns and goes on."""

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict, dict, dict]:
        """As ConfigMixin's, whose signature this is; raises ValueError, naming the first wrong setting."""
        _, *parameters = inspect.signature(cls.__init__).parameters.values()
        known, given = [own.name for own in parameters], config_dict | kwargs
        for name in given:
            # what begins with an underscore is diffusers' own
            if not name.startswith("_") and name not in known:
                cure = f"remove it, or correct its spelling in {cls.config_name}"
                raise ValueError(f"{cls.__name__} has no setting '{name}'; it has {', '.join(known)}: {cure}")
        for own in parameters:
            if own.default is own.empty and own.name not in given:
                what = f"`{own.name}` of a {cls.__name__}"
                raise ValueError(f"{cls.config_name} does not say {what}: save the student again")
        return super().extract_init_dict(config_dict, **kwargs)


class FlowMapModel(ModelMixin, Strict):
    """A student's v_{s,t}(x), or v_{s,t}(x | caption) where `conditional`; `flow_map` is the flow map itself.

    settings        the network's kind and sizes, as in params.yaml
    shape           of one point, (channels, height, width)
    sampler         a step is "jumps": X_{s,t}(x) = x + (t - s) v_{s,t}(x), or "euler": x + (t - s) v_{s,s}(x)
    noise_scale     the standard deviation of the noise at time 0
    top             the highest level of a pixel; the lowest is 0
    bypass          of latents: whether decoded images are added to the enlarged latents, as autoencoders
                    trained here do
    guidance_scale  the scale of classifier-free guidance where a call names none; 1 is none
    student         where it comes from: experiment, method, label, tier, seed, data, fingerprint

    Raises ValueError, in one sentence, for a setting that is none.
    """

    @register_to_config
    def __init__(
        self, settings: dict[str, Any], shape: list[int], sampler: str, noise_scale: float, top: int,
        bypass: bool = False, guidance_scale: float = 1.0, student: dict[str, Any] | None = None,
    ):  # fmt: skip
        super().__init__()
        sides = shape if isinstance(shape, (list, tuple)) else ()
        is_shape = len(sides) == 3 and all(type(side) is int and side > 0 for side in sides)
        for name, value, right, wanted in (
            ("sampler", sampler, sampler in SAMPLERS, " or ".join(map(repr, SAMPLERS))),
            ("noise_scale", noise_scale, is_number(noise_scale) and noise_scale > 0, "a number above 0"),
            ("top", top, type(top) is int and 1 <= top <= 255, "a whole number from 1 to 255"),
            ("bypass", bypass, type(bypass) is bool, "true or false"),
            ("shape", shape, is_shape, "three whole numbers above 0: channels, height and width"),
            ("student", student, student is None or isinstance(student, dict), "a mapping, or null"),
        ):
            if not right:
                cure = f"correct it in {self.config_name}"
                raise ValueError(f"`{name}` of a FlowMapModel is {wanted}, not {value!r}: {cure}")
        self.flow_map = networks.build(settings, tuple(shape))
        self.guidance(guidance_scale)

    @property
    def conditional(self) -> bool:
        """Whether the network is conditioned on captions."""
        return "conditions" in inspect.signature(self.flow_map.network.forward).parameters

    def guidance(self, scale: float | None = None) -> float:
        """`scale`, or the student's own if None; raises ValueError for one that is none or needs captions."""
        found = self.config.guidance_scale if scale is None else scale
        if not is_number(found) or found < 0:
            raise ValueError(f"`guidance_scale` is a number from 0 on, not {found!r}: 1 is none")
        if found != 1 and not self.conditional:
            why = "this student was trained without text, and guidance compares texts"
            raise ValueError(f"{why}: leave `guidance_scale` at 1, not {found:g}")
        return float(found)

    def forward(
        self, s: Tensor, t: Tensor, x: Tensor,
        captions: Conditions | None = None, empty: Conditions | None = None, guidance: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """v_{s,t}(x), (batch, channels, height, width), of times (batch,), in the weights' precision.

        captions  of a conditional network, one a point
        empty     the empty caption, a batch of one, which `guidance` compares with; a scale of 1 is none
        """
        flow_map, points = self.flow_map, (value.to(self.dtype) for value in (s, t, x))
        if captions is not None:
            both = (own and Conditions(own.hidden.to(self.dtype), own.mask) for own in (captions, empty))
            flow_map = guided(conditioned(flow_map, *both), guidance)
        return flow_map.average_velocity(*points).to(x.dtype)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> FlowMapModel:
        """As ModelMixin's, whose signature this is; raises ValueError for weights of another network."""
        kwargs |= {"output_loading_info": True, "local_files_only": True}
        mapping(Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "", cls.config_name), AGAIN)
        try:
            model, info = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
            unknown = (*info["missing_keys"], *info["unexpected_keys"])
            odd = [f"'{name}' is in one and not in the other" for name in unknown]
        except ValueError as error:
            # how diffusers says that a tensor is of another shape
            found = re.search(r"because (\S+) expected shape", str(error))
            if not found:
                raise
            odd = [f"'{found[1]}' is of another shape"]
        if odd:
            weights = f"the weights in {pretrained_model_name_or_path} are of another network"
            raise ValueError(f"{weights} than {cls.config_name} there says ({odd[0]}): {AGAIN}")
        return model.requires_grad_(False)
