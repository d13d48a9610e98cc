"""How far results may move between machines: the one place where it is said.

On one machine everything repeats bit for bit. Another processor sums in another order; over a smoke training
the difference grows to about 1e-4, and a few samples change their histogram cell.
"""

from dataclasses import dataclass

RELATIVE = 0.05
ABSOLUTE = 0.02


def close(a: float, b: float) -> bool:
    """Whether two printed numbers count as the same result."""
    return abs(a - b) <= ABSOLUTE + RELATIVE * max(abs(a), abs(b))


@dataclass(frozen=True)
class Off:
    """How far a device's values and gradients may be from the CPU's: norm of the difference over the norm."""

    value: float
    gradient: float


# By the precision of products. In single precision a CPU is 1e-7 to 6e-6 off its own double precision, and
# one term rounded to TF32 or half would be 5e-4 off; TF32 has 11 bits of mantissa and bfloat16 8 (5e-4 and
# 4e-3 a rounding), over thirty layers and their derivatives. No GPU has computed any of this yet: where one
# is further off, find out why before a number here is raised.
ON_DEVICE = {"fp32": Off(2e-5, 2e-5), "tf32": Off(1e-2, 5e-2), "bf16": Off(0.05, 0.15)}
# objectives that divide a small difference by a small step, and lose digits by it: a CPU is 9e-5 off at most
DIFFERENCES = {"consistency_training", "discrete_consistency", "imm", "velocity_consistency"}
OF_DIFFERENCES = Off(5e-4, 5e-4)
# of weights and losses after a few steps of Adam, which divides gradients by their size
TRAINED = 1e-3
