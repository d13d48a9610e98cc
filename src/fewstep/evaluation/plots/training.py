"""Pictures of training: loss and gradient norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .picture import COLOURS, STYLE, Picture, strokes


def _smooth(values: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `points` means of equal stretches, and the middle of each as a fraction of the whole."""
    parts = np.array_split(values, min(points, len(values)))
    return (np.arange(len(parts)) + 0.5) / len(parts), np.array([p.mean() for p in parts])


def training_curves(logs: Mapping[str, Sequence[Mapping[str, np.ndarray]]], title: str) -> Picture:
    """Loss and gradient norm against the fraction of training, one line a run, coloured by method; weights that were taken from a file have none."""
    logs = {
        method: kept for method, runs in logs.items() if (kept := [run for run in runs if len(run["loss"])])
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.2))
        axes = figure.subplots(1, 2)
    numbers = {}
    for stroke, (method, runs) in zip(strokes(len(logs)), logs.items()):
        for axis, quantity in zip(axes, ("loss", "gradient_norm")):
            for k, run in enumerate(runs):
                x, y = _smooth(run[quantity], 150)
                axis.plot(x, y, **stroke, lw=1, alpha=0.8, label=method if k == 0 else None)
            _, coarse = _smooth(runs[0][quantity], 5)
            numbers[f"{method}, {quantity}"] = [float(f"{v:.3g}") for v in coarse]
    for axis, name in zip(axes, ("loss", "norm of the gradient")):
        axis.set(yscale="log", xlabel="fraction of training", ylabel=name)
    if logs:
        axes[1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return Picture(figure, numbers, title)


def part_curves(logs: Sequence[Mapping[str, np.ndarray]], title: str) -> Picture:
    """Every logged quantity but loss and gradient norm, one panel each, smoothed, one line a training seed; those that stay zero are left out.

    Where nothing was logged, as of weights that were published, the picture says so.
    """
    names = [
        name
        for name in logs[0]
        if name not in ("loss", "gradient_norm") and any(np.any(log[name]) for log in logs)
    ]
    figure = Figure(figsize=(2.6 * max(len(names), 1), 2.4))
    numbers: dict[str, list[float]] = {}
    if not names:
        figure.text(0.5, 0.5, "nothing was trained here", ha="center", va="center")
        return Picture(figure, numbers, title)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        for log in logs:
            x, y = _smooth(log[name], 100)
            axis.plot(x, y, color=COLOURS[0], lw=1, alpha=0.8)
        numbers[name] = [float(f"{v:.3g}") for v in _smooth(logs[0][name], 5)[1]]
        axis.set(xlabel="fraction of training", title=name)
    figure.tight_layout()
    return Picture(figure, numbers, title)
