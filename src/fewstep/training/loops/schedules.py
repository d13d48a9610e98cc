"""The step size, and how much of an average is kept, as functions of the step."""

from __future__ import annotations

from ...settings.optimiser import Optimiser


def rate(settings: Optimiser, step: int, steps: int) -> float:
    """The step size at `step` of `steps`: a linear warm-up, then a straight line down to zero, or

    rate / sqrt(max(step / hold, 1)) (arXiv 2505.18825), or the rate as it is.
    """
    warm = settings.warmup * steps
    if step < warm:
        return settings.lr * (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "inverse_sqrt":
        return settings.lr / max(step / settings.decay_after, 1.0) ** 0.5
    return settings.lr * (steps - step) / (steps - warm)


def memory(settings: Optimiser, step: int, steps: int) -> float:
    """How much of the averaged weights is kept at `step`: a horizon of `average * steps` steps.

    A young average would remember the initial weights, so its horizon grows with the run.
    """
    horizon = max(settings.ema * steps, 1.0)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))
