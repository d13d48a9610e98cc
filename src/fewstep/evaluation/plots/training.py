"""Pictures of training: loss and gradient norm."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .picture import Picture, legend_beside, line_panels, log_ticks, stroke

# A run that rises beyond so many times its own start and the median of all runs is drawn apart
APART = 100
QUANTITIES = {"loss": "loss", "gradient_norm": "gradient norm"}


def _smooth(values: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `points` means of equal stretches, and the middle of each as a fraction of the whole."""
    parts = np.array_split(values, min(points, len(values)))
    return (np.arange(len(parts)) + 0.5) / len(parts), np.array([p.mean() for p in parts])


def _coarse(values: np.ndarray) -> list[float]:
    return [float(f"{v:.3g}") for v in _smooth(values, 5)[1]]


def _diverging(runs: Sequence[np.ndarray]) -> set[int]:
    """Which runs are not finite, or rise beyond APART times their own start and the median of all medians."""
    usual = np.median([m for m in map(np.median, runs) if np.isfinite(m)] or [0])
    return {k for k, run in enumerate(runs) if not _smooth(run, 150)[1].max() <= APART * max(run[0], usual)}


def training_curves(logs: Mapping[str, Sequence[Mapping[str, np.ndarray]]], title: str) -> Picture:
    """Loss and gradient norm against the fraction of training, a line a run; those that diverge below."""
    runs = [(method, run) for method, own in logs.items() for run in own if len(run["loss"])]
    apart = set().union(*(_diverging([run[quantity] for _, run in runs]) for quantity in QUANTITIES))
    if len(apart) == len(runs):
        apart = set()  # there is no other that they would hide
    heights = (3.2, 1.6) if apart else (3.2,)
    figure, axes = line_panels(9, sum(heights), len(heights), 2, gridspec_kw={"height_ratios": heights})
    handles, numbers = {}, {}
    for k, (method, run) in enumerate(runs):
        for axis, quantity in zip(axes[int(k in apart)], QUANTITIES):
            (line,) = axis.plot(*_smooth(run[quantity], 150), **stroke(method), lw=1.2, label=method)
            handles.setdefault(method, line)
            numbers.setdefault(f"{method}, {quantity}", _coarse(run[quantity]))
    for row, most in zip(axes, (8, 4)):
        for axis, name in zip(row, QUANTITIES.values()):
            axis.set(yscale="log", xlim=(0, 1), ylabel=name)
            log_ticks(axis.yaxis, most)
    for axis in axes[-1]:
        axis.set_xlabel("fraction of training")
    alt = f"{title}: loss and gradient norm against the fraction of training of {'; '.join(handles)}"
    if apart:
        diverged = "; ".join(dict.fromkeys(runs[k][0] for k in sorted(apart)))
        alt = f"{alt}, below those that diverged: {diverged}"
        for axis in axes[1]:
            axis.set_title(f"diverged: {diverged}", fontsize=9)
    if handles:
        legend_beside(axes[0, 1], handles.values())
    figure.tight_layout()
    return Picture(figure, numbers, title, alt)


def part_curves(logs: Sequence[Mapping[str, np.ndarray]], title: str) -> Picture:
    """Logged quantities but loss and gradient norm, unless always zero: a panel each, a line a seed."""
    logged = [name for name in logs[0] if name not in QUANTITIES and any(np.any(log[name]) for log in logs)]
    if not logged:
        figure = Figure(figsize=(2.6, 2.4))
        figure.text(0.5, 0.5, "nothing was trained here", ha="center", va="center")
        return Picture(figure, {}, title, f"{title}: nothing was trained here")
    figure, axes = line_panels(2.6 * len(logged), 2.4, 1, len(logged))
    numbers = {}
    for axis, name in zip(axes[0], logged):
        for log in logs:
            axis.plot(*_smooth(log[name], 100), color="#163a5f", lw=1)
        numbers[name] = _coarse(logs[0][name])
        axis.set(xlabel="fraction of training", title=name)
    figure.tight_layout()
    alt = f"{title}: curves against the fraction of training of {', '.join(logged)}"
    return Picture(figure, numbers, title, alt)
