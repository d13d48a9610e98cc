"""The samplers' names, for settings, and the network calls of their steps; what they do is in fewstep.flows.samplers."""

from __future__ import annotations

STOCHASTIC, GUIDED = "stochastic-", "guided-"
# network calls a step; an adaptive solver takes as many as it needs
CALLS: dict[str, int | None] = {"jumps": 1, "euler": 1, "heun": 2, "adaptive": None}


def check(name: str) -> None:
    """Raise ValueError, naming those there are, unless `name` is a sampler: one of CALLS, "guided-<scale>" or "stochastic-<beta>", 0 <= beta <= 1."""
    scale = name.removeprefix(GUIDED)
    if scale != name and scale.replace(".", "", 1).isdigit():
        return
    beta = name.removeprefix(STOCHASTIC)
    if name not in CALLS and (
        beta == name or not beta.replace(".", "", 1).isdigit() or not 0 <= float(beta) <= 1
    ):
        raise ValueError(
            f"there is no sampler '{name}'; there are {', '.join(CALLS)}, {GUIDED}<scale> and {STOCHASTIC}<beta> with beta from 0 to 1"
        )


def further(name: str) -> str:
    """`name` itself; raises ValueError unless it is a solver that a row of its own may be drawn by: 'heun', 'adaptive', 'guided-<scale>' or 'stochastic-<beta>'."""
    if name not in ("heun", "adaptive") and not name.startswith((STOCHASTIC, GUIDED)):
        raise ValueError(
            f"a further solver is 'heun', 'adaptive', '{GUIDED}<scale>' or '{STOCHASTIC}<beta>', not '{name}'"
        )
    check(name)
    return name


def own(name: str) -> str:
    """`name` itself; raises ValueError unless a method's own row may be drawn by it: 'jumps', 'euler', 'heun' or 'guided-<scale>'."""
    if name not in ("jumps", "euler", "heun") and not name.startswith(GUIDED):
        raise ValueError(f"a method's sampler is 'jumps', 'euler', 'heun' or '{GUIDED}<scale>', not '{name}'")
    check(name)
    return name


def calls_a_step(name: str) -> int | None:
    """The network calls of one step of a sampler, or None for an adaptive one."""
    if name.startswith(GUIDED):
        # with the text and without it; a scale of 1 needs no other
        return 1 if float(name.removeprefix(GUIDED)) == 1 else 2
    return 1 if name.startswith(STOCHASTIC) else CALLS.get(name)
