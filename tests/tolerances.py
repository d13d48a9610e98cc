"""How far results may move between machines: the one place where it is said.

On one machine everything repeats bit for bit. Another processor sums in another order; over a smoke training
the difference grows to about 1e-4, and a few samples change their histogram cell.
"""

RELATIVE = 0.05
ABSOLUTE = 0.02


def close(a: float, b: float) -> bool:
    """Whether two printed numbers count as the same result."""
    return abs(a - b) <= ABSOLUTE + RELATIVE * max(abs(a), abs(b))
