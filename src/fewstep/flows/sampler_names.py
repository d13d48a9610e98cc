"""The samplers' names, as settings hold them, and their network calls a step; see fewstep.flows.samplers."""

from __future__ import annotations

STOCHASTIC, GUIDED = "stochastic-", "guided-"
# network calls a step; an adaptive solver takes as many as it needs
CALLS: dict[str, int | None] = {"jumps": 1, "euler": 1, "heun": 2, "adaptive": None}


def check_sampler(name: str) -> str:
    """`name`; raises ValueError unless in CALLS, "guided-<scale>" or "stochastic-<beta>", beta in [0, 1]."""
    prefix = next((prefix for prefix in (STOCHASTIC, GUIDED) if name.startswith(prefix)), "")
    number = name.removeprefix(prefix)
    is_number = bool(prefix) and number.replace(".", "", 1).isdigit()
    if name not in CALLS and not (is_number and (prefix == GUIDED or float(number) <= 1)):
        raise ValueError(
            f"there is no sampler '{name}'; there are {', '.join(CALLS)}, {GUIDED}<scale> and "
            f"{STOCHASTIC}<beta> with beta from 0 to 1"
        )
    return name


def check_method_sampler(name: str) -> str:
    """`name`; raises ValueError unless it has equal steps and no fresh noise, for a method's own row."""
    if name not in ("jumps", "euler", "heun") and not name.startswith(GUIDED):
        raise ValueError(f"a method's sampler is 'jumps', 'euler', 'heun' or '{GUIDED}<scale>', not '{name}'")
    return check_sampler(name)


def check_solver(name: str) -> str:
    """`name`; raises ValueError unless it integrates the velocity, for a row beside the method's own."""
    if name not in ("heun", "adaptive") and not name.startswith((STOCHASTIC, GUIDED)):
        raise ValueError(
            f"a solver is 'heun', 'adaptive', '{GUIDED}<scale>' or '{STOCHASTIC}<beta>', not '{name}'"
        )
    return check_sampler(name)


def calls_a_step(name: str) -> int | None:
    """The network calls of one step of a sampler, or None for an adaptive one."""
    if name.startswith(GUIDED):
        # with the caption and without; a scale of 1 needs no second call
        return 1 if float(name.removeprefix(GUIDED)) == 1 else 2
    return 1 if name.startswith(STOCHASTIC) else CALLS.get(name)
