"""Pictures of points in the plane: densities, trajectories, clouds."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from matplotlib.figure import Figure

from ...flows.flow_map import FlowMap
from .picture import INK, Panels, Picture, steps


def _histogram(points: np.ndarray, bins: int) -> np.ndarray:
    return np.histogram2d(*points.T, bins=bins, range=[[-1.1, 1.1]] * 2)[0].T / len(points)


def _coarse(points: np.ndarray) -> list[float]:
    return _histogram(points, 6).round(3).ravel().tolist()


def densities(rows: Panels, title: str, across: int | None = None) -> Picture:
    """Densities of samples (count, 2): a row a key, a column an inner key "N = ..."; or `across` a row."""
    columns = sorted({name for row in rows.values() for name in row}, key=steps)
    pairs = product(enumerate(rows), enumerate(columns))
    place = {(label, column): (i, j) for (i, label), (j, column) in pairs if column in rows[label]}
    if across:
        place = {cell: divmod(k, across) for k, cell in enumerate(place)}
    high, wide = (max(at) + 1 for at in zip(*place.values()))
    head = 0.25 if across else 0
    figure = Figure(figsize=(1.75 * wide + 0.9, (1.75 + head) * high + 0.4))
    axes = figure.subplots(high, wide, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for (label, column), (i, j) in place.items():
        axis, most = axes[i, j], 1.8 * (2.2 / 110) ** 2 / 2
        axis.set_frame_on(True)
        axis.imshow(_histogram(rows[label][column], 110), origin="lower", cmap=INK, vmin=0, vmax=most)
        if across:
            axis.set_title(f"{label}, {column}", fontsize=10)
    if not across:
        for i, label in enumerate(rows):
            axes[i, 0].set_ylabel(label, fontsize=10)
        for j, column in enumerate(columns):
            axes[0, j].set_title(column, fontsize=9)
    figure.tight_layout(pad=0.4, h_pad=1 if across else None)
    numbers = {f"{label}, {column}": _coarse(rows[label][column]) for label, column in place}
    return Picture(figure, numbers, title, f"{title}: densities of {'; '.join(numbers)}", palette=32)


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
        axis.plot(*path.transpose(2, 0, 1), color="#4a7fb5", lw=0.5, alpha=0.5)
        axis.scatter(*path[0].T, s=3, color="#999999", label="t = 0")
        axis.scatter(*path[-1].T, s=5, color="#163a5f", label="t = 1")
        axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], title=label, aspect="equal")
        numbers[label] = path[:: (times - 1) // 2, :5].round(3).tolist()
    figure.tight_layout()
    ends = axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=ends, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0.02))
    alt = f"{title}: paths from noise at t = 0 to samples at t = 1 of {', '.join(maps)}"
    return Picture(figure, numbers, title, alt, palette=32)


def side_by_side(clouds: Mapping[str, np.ndarray], title: str) -> Picture:
    """Scatter plots of samples (count, 2), one panel each."""
    figure = Figure(figsize=(3.2 * len(clouds), 3.3))
    for axis, (label, points) in zip(figure.subplots(1, len(clouds), squeeze=False)[0], clouds.items()):
        axis.scatter(*points.T, s=1, color="#163a5f", alpha=0.5)
        axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"{label}, {title}")
    figure.tight_layout()
    numbers = {label: _coarse(points) for label, points in clouds.items()}
    return Picture(figure, numbers, title, f"{title}: samples of {'; '.join(clouds)}", palette=32)
