"""fewstep: few-step generative models, from formula to table.

from fewstep import load_flow_map, jumps
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["load_flow_map", "jumps"]
_FROM = {"load_flow_map": "networks.load", "jumps": "flows.samplers"}


def __getattr__(name: str):
    # Imported when asked for: `python -m fewstep check` must not wait for torch.
    if name in _FROM:
        return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
