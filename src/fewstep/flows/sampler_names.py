"""The samplers' names, as settings hold them, and their network calls a step; see fewstep.flows.samplers."""

import re

STOCHASTIC, GUIDED, RENOISED, SDE = "stochastic-", "guided-", "renoised-", "sde-"
MOST_GUIDANCE = 100.0
# the largest number of each; a larger diffusion than 2 overshoots in the last steps
MOST = {GUIDED: MOST_GUIDANCE, STOCHASTIC: 1.0, RENOISED: 1.0, SDE: 2.0}
# those whose formula is that of the linear interpolant with Gaussian noise
LINEAR_ONLY = (RENOISED, SDE)
CALLS: dict[str, int | None] = {"jumps": 1, "euler": 1, "heun": 2, "adaptive": None}


def check_sampler(name: str) -> str:
    """`name`; ValueError unless it is in CALLS, or one of MOST with a number in the range of its kind."""
    kind, dash, number = name.partition("-")
    # without a sign, an exponent or other scripts' digits
    most = MOST.get(kind + dash)
    known = most is not None and re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", number) and float(number) <= most
    if name not in CALLS and not known:
        numbered = zip(MOST.items(), ("scale", "beta", "gamma", "epsilon"))
        further = ", ".join(f"{kind}<{symbol}> up to {most:g}" for (kind, most), symbol in numbered)
        there = f"{', '.join(CALLS)}, {further}"
        raise ValueError(f"there is no sampler '{name}'; there are {there}")
    return name


def check_method_sampler(name: str) -> str:
    """`name`; raises ValueError unless it has equal steps and no fresh noise, for a method's own row."""
    if name not in ("jumps", "euler", "heun") and not name.startswith(GUIDED):
        raise ValueError(f"a method's sampler is 'jumps', 'euler', 'heun' or '{GUIDED}<scale>', not '{name}'")
    return check_sampler(name)


def check_solver(name: str) -> str:
    """`name`; raises ValueError unless it can stand in a row of its own beside the method's."""
    if name not in ("heun", "adaptive") and not name.startswith(tuple(MOST)):
        known = f"'heun', 'adaptive', '{GUIDED}<scale>', '{STOCHASTIC}<beta>', '{RENOISED}<gamma>'"
        known += f" or '{SDE}<epsilon>'"
        raise ValueError(f"a solver is {known}, not '{name}'")
    return check_sampler(name)


def calls_a_step(name: str) -> int | None:
    """The network calls of one step of a sampler, or None for an adaptive one."""
    if name.startswith(GUIDED):
        # with the caption and without; a scale of 1 needs no second call
        return 1 if float(name.removeprefix(GUIDED)) == 1 else 2
    return 1 if name.startswith((STOCHASTIC, RENOISED, SDE)) else CALLS.get(name)
