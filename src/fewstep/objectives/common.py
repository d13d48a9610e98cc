"""What objectives share."""

from torch import Tensor


def squared_norm(residual: Tensor) -> Tensor:
    """|r|^2 summed over everything but the batch: (batch, ...) -> (batch,)."""
    return residual.square().flatten(1).sum(1)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not '{value}'")
