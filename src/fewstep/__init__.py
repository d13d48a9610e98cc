"""fewstep: few-step generative models, from formula to table. This is the library's public page.

A flow map X_{s,t}(x) = x + (t - s) v_{s,t}(x) carries points from time s to time t, noise at 0, data at 1;
its diagonal v_{t,t} is the velocity of the flow. The examples of this page assume

    >>> import torch
    >>> from fewstep import *

Each name is loaded when it is first used; __init__.pyi says the same to type checkers.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = {
    "flows.flow_map": ("FlowMap", "NetworkFlowMap", "EulerMap"),
    "flows.interpolants": ("Batch", "Interpolant", "LINEAR", "TRIGONOMETRIC", "STOCHASTIC"),
    "flows.samplers": ("jumps", "euler", "heun", "adaptive"),
    "flows.exact.checkerboard": ("CheckerboardFlow", "CheckerboardMap"),
    "flows.exact.gaussian": ("GaussianFlow",),
    "flows.exact.mixture": ("MixtureFlow",),
    "flows.exact.straight": ("StraightFlow",),
    "networks.mlp": ("MLP",),
    "networks.load": ("load_flow_map",),
}
# each in the module of its own name
_OBJECTIVES = (
    "si", "lmd", "emd", "fmm", "eulerian", "pfmm", "lsd", "esd", "psd", "consistency", "meanflow", "reflow",
)  # fmt: skip
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
_WHERE |= {name: f"objectives.{name}" for name in _OBJECTIVES}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
