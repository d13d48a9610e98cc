"""Why more steps can make a consistency model worse (arXiv 2506.14603, theorem 3.1): closed form and trained.

From N(0, 1) to N(0, c^2) along I_t = (1 - t) x0 + t x1, in one dimension, every map below multiplies, so that
all stays Gaussian and W2 is the difference of the deviations. The exact maps reach c in any number of steps;
what grows or falls with the steps is the error that they are given. Beside them stand trained maps of the
checkerboard, whose error is whatever training left, by KL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import tables
from .measures import KL
from .provenance import Provenance

NAME, METRIC = "consistency-error", "W2 to target / e"
STEPS = (1, 2, 4, 8, 16, 32, 64)
# rows of zoo-checkerboard -> what they are called here: whose map it is, and how it moves
TRAINED = {
    "CM, renoised-1": "consistency model, re-noised (CM)",
    "consistency, renoised-1": "flow map, re-noised (consistency)",
    "consistency": "flow map, jumps (consistency)",
    "LMD": "flow map, jumps (LMD)",
}


@dataclass(frozen=True)
class World:
    """Data of deviation `c`, and the size `e` of the error."""

    c: float = 0.5
    e: float = 0.01

    def deviation(self, t: float) -> float:
        """That of I_t."""
        return float(np.hypot(1 - t, self.c * t))


def constant(world: World, s: float) -> float:
    """f*(x) / x + e: the error of the paper's theorem, as large at the data as at the noise."""
    return world.c / world.deviation(s) + world.e


def vanishing(world: World, s: float) -> float:
    """f*(x) / x + e (1 - s): that of a map x + (1 - s) v whose v is wrong by e x."""
    return world.c / world.deviation(s) + world.e * (1 - s)


def renoised(world: World, gain: Callable[[World, float], float], steps: int) -> float:
    """W2 of a consistency model, in `steps` equal steps: to the data, and back to the next noise level."""
    deviation = 1.0
    for k in range(steps):
        end, t = gain(world, k / steps) * deviation, (k + 1) / steps
        # which adds no noise after the last step
        deviation = float(np.hypot(t * end, 1 - t))
    return abs(deviation - world.c)


def jumped(world: World, steps: int) -> float:
    """W2 of a flow map that jumps, its v wrong by e x: each jump multiplies by its own factor + e (t - s)."""
    deviation = 1.0
    for s, t in zip(np.arange(steps) / steps, np.arange(1, steps + 1) / steps):
        deviation *= world.deviation(t) / world.deviation(s) + world.e * (t - s)
    return abs(float(deviation) - world.c)


ROWS: dict[str, Callable[[World, int], float]] = {
    "consistency model, error e": lambda world, n: renoised(world, constant, n),
    "consistency model, error e (1 - s)": lambda world, n: renoised(world, vanishing, n),
    "flow map, error e (t - s)": jumped,
}


def table(
    tier: str, origin: Provenance, trained: pd.DataFrame, world: World = World(), steps: Sequence[int] = STEPS
) -> pd.DataFrame:
    """W2 of every row at every number of steps, in units of the error e, in the tables' columns.

    Below it stand the KL of those rows of the table `trained` that TRAINED names.
    """
    how = f"closed form, N(0, 1) to N(0, c^2), c = {world.c:g}, e = {world.e:g}, equal steps"
    shared = {"metric": METRIC, "seeds": "no", "samples": 1, "protocol": how}
    rows = ((name, n, w2(world, n) / world.e) for name, w2 in ROWS.items() for n in steps)
    cells = (shared | {"method": name, "nfe": n, "value": value} for name, n, value in rows)
    kl = trained[trained.metric == KL]
    parts = [kl[kl.method == row].assign(method=name) for row, name in TRAINED.items()]
    return tables.with_cost(tables.computed(cells, NAME, tier, origin), parts)
