"""Configs of diffusers that are closed to unknown settings."""

from __future__ import annotations

from typing import Any

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import ConfigMixin  # isort: skip


class Strict(ConfigMixin):
    """A ConfigMixin that refuses a setting it does not know, where diffusers would warn and go on without it."""

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict, dict, dict]:
        """As ConfigMixin's, whose signature this is; raises ValueError naming the first unknown setting and those there are."""
        known = sorted(cls._get_init_keys(cls) - {"self"})
        for name in [*config_dict, *kwargs]:
            # what begins with an underscore is diffusers' own
            if not name.startswith("_") and name not in known:
                raise ValueError(
                    f"{cls.__name__} has no setting '{name}'; it has {', '.join(known)}: remove it, or correct its spelling in {cls.config_name}"
                )
        return super().extract_init_dict(config_dict, **kwargs)
