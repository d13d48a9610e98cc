"""The samplers' names, as settings hold them, and their network calls a step; see fewstep.flows.samplers."""

import re

STOCHASTIC, GUIDED = "stochastic-", "guided-"
MOST_GUIDANCE = 100.0
CALLS: dict[str, int | None] = {"jumps": 1, "euler": 1, "heun": 2, "adaptive": None}


def check_sampler(name: str) -> str:
    """`name`; ValueError unless in CALLS, "guided-<scale>" up to 100 or "stochastic-<beta>" up to 1."""
    kind, _, number = name.partition("-")
    # without a sign, an exponent or other scripts' digits
    most = {"guided": MOST_GUIDANCE, "stochastic": 1.0}.get(kind)
    known = most is not None and re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", number) and float(number) <= most
    if name not in CALLS and not known:
        there = f"{', '.join(CALLS)}, {GUIDED}<scale> up to {MOST_GUIDANCE:g} and {STOCHASTIC}<beta> up to 1"
        raise ValueError(f"there is no sampler '{name}'; there are {there}")
    return name


def check_method_sampler(name: str) -> str:
    """`name`; raises ValueError unless it has equal steps and no fresh noise, for a method's own row."""
    if name not in ("jumps", "euler", "heun") and not name.startswith(GUIDED):
        raise ValueError(f"a method's sampler is 'jumps', 'euler', 'heun' or '{GUIDED}<scale>', not '{name}'")
    return check_sampler(name)


def check_solver(name: str) -> str:
    """`name`; raises ValueError unless it integrates the velocity, for a row beside the method's own."""
    if name not in ("heun", "adaptive") and not name.startswith((STOCHASTIC, GUIDED)):
        known = f"'heun', 'adaptive', '{GUIDED}<scale>' or '{STOCHASTIC}<beta>'"
        raise ValueError(f"a solver is {known}, not '{name}'")
    return check_sampler(name)


def calls_a_step(name: str) -> int | None:
    """The network calls of one step of a sampler, or None for an adaptive one."""
    if name.startswith(GUIDED):
        # with the caption and without; a scale of 1 needs no second call
        return 1 if float(name.removeprefix(GUIDED)) == 1 else 2
    return 1 if name.startswith(STOCHASTIC) else CALLS.get(name)
