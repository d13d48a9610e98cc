"""The samplers' names, for settings, and the network calls of their steps; what they do is in fewstep.samplers."""

from __future__ import annotations

STOCHASTIC = "stochastic-"
# network calls a step; an adaptive solver takes as many as it needs
CALLS: dict[str, int | None] = {"jumps": 1, "euler": 1, "heun": 2, "adaptive": None}


def check(name: str) -> None:
    """Raise ValueError, naming those there are, unless `name` is a sampler: one of CALLS or "stochastic-<beta>", 0 <= beta <= 1."""
    beta = name.removeprefix(STOCHASTIC)
    if name not in CALLS and (beta == name or not beta.replace(".", "", 1).isdigit() or not 0 <= float(beta) <= 1):
        raise ValueError(f"there is no sampler '{name}'; there are {', '.join(CALLS)} and {STOCHASTIC}<beta> with beta from 0 to 1")


def further(name: str) -> str:
    """`name` itself; raises ValueError unless it is a solver that a row of its own may be drawn by: 'heun', 'adaptive' or 'stochastic-<beta>'."""
    if name not in ("heun", "adaptive") and not name.startswith(STOCHASTIC):
        raise ValueError(f"a further solver is 'heun', 'adaptive' or '{STOCHASTIC}<beta>', not '{name}'")
    check(name)
    return name


def calls_a_step(name: str) -> int | None:
    """The network calls of one step of a sampler, or None for an adaptive one."""
    return 1 if name.startswith(STOCHASTIC) else CALLS.get(name)
