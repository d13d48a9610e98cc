"""Pictures of samples: densities, quality against network calls, trajectories."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ...flows.flow_map import FlowMap
from .picture import INK, STYLE, Picture, strokes


def _histogram(points: np.ndarray, bins: int) -> np.ndarray:
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=bins, range=[[-1.1, 1.1], [-1.1, 1.1]])
    return counts.T / len(points)


def densities(panels: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Picture:
    """A grid of density plots: one row for each key, one column for each inner key "N = ..."; samples (count, 2)."""
    columns = sorted(
        {name for row in panels.values() for name in row}, key=lambda name: int(name.split()[-1])
    )
    figure = Figure(figsize=(1.75 * len(columns) + 0.9, 1.75 * len(panels) + 0.4))
    axes = figure.subplots(len(panels), len(columns), squeeze=False)
    numbers: dict[str, list] = {}
    for i, (label, row) in enumerate(panels.items()):
        for j, column in enumerate(columns):
            axis = axes[i, j]
            axis.set(xticks=[], yticks=[])
            if i == 0:
                axis.set_title(column, fontsize=9)
            if column not in row:
                axis.set_frame_on(False)
                continue
            axis.imshow(
                _histogram(row[column], 110),
                origin="lower",
                cmap=INK,
                vmin=0,
                vmax=1.8 * (2.2 / 110) ** 2 / 2,
            )
            numbers[f"{label}, {column}"] = _histogram(row[column], 6).round(3).ravel().tolist()
        axes[i, 0].set_ylabel(label, fontsize=10)
    figure.tight_layout(pad=0.4)
    return Picture(figure, numbers, title)


def curves(table: pd.DataFrame, metric: str, title: str, floor: float | None = None) -> Picture:
    """A metric against network calls, one line a method with its deviation over training seeds (log-log)."""
    part = table[(table.metric == metric) & (table.method != "exact")]
    # here, and not above: it loads scipy.stats, a second that every notebook with a picture would pay
    import seaborn as sns

    with sns.axes_style("white", STYLE):
        figure = Figure(figsize=(6.4, 3.8))
        axis = figure.subplots()
    numbers = {}
    lines = part.groupby("method", sort=False)
    for stroke, (method, line) in zip(strokes(len(lines)), lines):
        axis.errorbar(
            line.nfe,
            line.value,
            yerr=line.sd.fillna(0),
            label=method,
            **stroke,
            marker="o",
            ms=4,
            lw=1.5,
            capsize=2,
        )
        numbers[method] = [[int(n), round(float(v), 4)] for n, v in zip(line.nfe, line.value)]
    if floor is not None:
        axis.axhline(floor, color="#888888", lw=1, ls="--", label="exact sampler")
        numbers["exact"] = round(floor, 4)
    axis.set(xscale="log", yscale="log", xlabel="network calls per sample", ylabel=metric)
    ticks = sorted(part.nfe.unique())
    axis.set_xticks(ticks, labels=[str(n) for n in ticks])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8)
    return Picture(figure, numbers, title)


@torch.no_grad()
def trajectories(maps: Mapping[str, FlowMap], x0: torch.Tensor, title: str, times: int = 33) -> Picture:
    """X_{0,t}(x0) against t for every map, each t from ONE call, over the end points; x0 (count, 2)."""
    grid = torch.linspace(0, 1, times)
    figure = Figure(figsize=(3.4 * len(maps), 3.5))
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    numbers = {}
    for axis, (label, flow_map) in zip(axes, maps.items()):
        start = torch.zeros(len(x0))
        path = torch.stack([flow_map.jump(start, torch.full_like(start, float(t)), x0) for t in grid]).numpy()
        for line in path.swapaxes(0, 1):
            axis.plot(line[:, 0], line[:, 1], color="#4a7fb5", lw=0.5, alpha=0.5)
        axis.scatter(*path[0].T, s=3, color="#999999", label="t = 0")
        axis.scatter(*path[-1].T, s=5, color="#163a5f", label="t = 1")
        axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], title=label, aspect="equal")
        numbers[label] = path[:: (times - 1) // 2, :5].round(3).tolist()
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.tight_layout()
    return Picture(figure, numbers, title)


def side_by_side(clouds: Mapping[str, np.ndarray], title: str) -> Picture:
    """Scatter plots of samples (count, 2), one panel each."""
    figure = Figure(figsize=(3.2 * len(clouds), 3.3))
    for axis, (label, points) in zip(figure.subplots(1, len(clouds), squeeze=False)[0], clouds.items()):
        axis.scatter(*points.T, s=1, color="#163a5f", alpha=0.5)
        axis.set(
            xlim=(-1.3, 1.3),
            ylim=(-1.3, 1.3),
            xticks=[],
            yticks=[],
            title=f"{label}, {title}",
            aspect="equal",
        )
    return Picture(
        figure,
        {label: _histogram(points, 6).round(3).ravel().tolist() for label, points in clouds.items()},
        title,
    )
