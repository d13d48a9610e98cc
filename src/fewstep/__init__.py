"""fewstep: few-step generative models, from formula to table.

    from fewstep import load_flow_map, jumps
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["load_flow_map", "jumps"]


def __getattr__(name: str):
    # Imported when asked for: `python -m fewstep check` must not wait for torch.
    if name == "load_flow_map":
        from .trained import load_flow_map

        return load_flow_map
    if name == "jumps":
        from .samplers import jumps

        return jumps
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
