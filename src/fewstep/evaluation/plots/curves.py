"""Pictures of lines: trainings, a metric against network calls or a cost, and all claims as a forest plot."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .picture import METHODS, Picture, cell_line, legend_beside, line_panels, log_ticks, stroke

# colour and marker by verdict: the marker too, for whoever does not tell the colours apart
LOOK = {"supported": ("#0072B2", "o"), "undecided": ("#888888", "D"), "contradicted": ("#D55E00", "s")}
# half-widths of an interval beyond which a claim is drawn at the edge, as an arrow
REACH = 8.0
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
    labels = len({method for method, _ in runs})
    # a line of the legend takes a sixth of an inch, and stands beside all panels
    high = max(sum(heights), labels / 6 + 0.4)
    figure, axes = line_panels(9, high, len(heights), 2, gridspec_kw={"height_ratios": heights})
    handles, numbers = {}, {}
    for k, (method, run) in enumerate(runs):
        for axis, quantity in zip(axes[int(k in apart)], QUANTITIES):
            (line,) = axis.plot(*_smooth(run[quantity], 150), **stroke(method), lw=1.2, label=method)
            handles.setdefault(method, line)
            numbers.setdefault(f"{method}, {quantity}", _coarse(run[quantity]))
    alt = f"{title}: loss and gradient norm against the fraction of training of {'; '.join(handles)}"
    for axis, name, most in zip(axes.flat, [*QUANTITIES.values()] * 2, (8, 8, 4, 4)):
        axis.set(yscale="log", xlim=(0, 1), ylabel=name)
        log_ticks(axis.yaxis, most)
    for axis in axes[-1]:
        axis.set_xlabel("fraction of training")
    if apart:
        diverged = "; ".join(dict.fromkeys(runs[k][0] for k in sorted(apart)))
        alt = f"{alt}, below those that diverged: {diverged}"
        for axis in axes[1]:
            axis.set_title(f"diverged: {diverged}", fontsize=9)
    figure.tight_layout()
    if handles:
        # behind the layout, which would make room for all of it beside the upper panels alone
        legend_beside(axes[0, 1], handles.values())
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


def _call_ticks(calls: pd.Series) -> list[int]:
    """The numbers of calls to write below a logarithmic axis: the most frequent first, none upon another."""
    gap, kept = 0.05 * np.log(calls.max() / calls.min()), list[int]()
    for n in calls.value_counts().sort_index().sort_values(ascending=False, kind="stable").index:
        if all(abs(np.log(n / other)) > gap for other in kept):
            kept.append(int(n))
    return sorted(kept)


def _against_calls(axis: Axes, table: pd.DataFrame, metric: str, floor: float | None = None) -> dict:
    """Draw a metric against network calls (log-log), one line a method; returns what is drawn, by method."""
    part = table[(table.metric == metric) & (table.method != "exact")]
    lines = part.groupby("method", sort=False)
    numbers: dict = {method: cell_line(axis, line, "nfe", method, ms=4) for method, line in lines}
    if floor is not None:
        axis.axhline(floor, color=METHODS["exact"], lw=1, ls="--", label="exact sampler")
        numbers["exact"] = round(floor, 4)
    axis.set(xscale="log", yscale="log", xlabel="network calls per sample", ylabel=metric)
    log_ticks(axis.yaxis)
    ticks = _call_ticks(part.nfe)
    axis.set_xticks(ticks, labels=[str(n) for n in ticks])
    axis.minorticks_off()
    legend_beside(axis)
    return numbers


def _of_calls(metric: str, numbers: dict) -> str:
    methods = "; ".join(method for method in numbers if method != "exact")
    return f"{metric} against network calls per sample for {methods}"


def curves(table: pd.DataFrame, metric: str, title: str, floor: float | None = None) -> Picture:
    """A metric against network calls, one line a method with its deviation over training seeds (log-log)."""
    figure, ((axis,),) = line_panels(6.4, 3.8)
    numbers = _against_calls(axis, table, metric, floor)
    return Picture(figure, numbers, title, f"{title}: {_of_calls(metric, numbers)}")


def curves_beside(table: pd.DataFrame, title: str) -> Picture:
    """`curves` of each metric of a table, side by side in its order; the numbers are by metric."""
    metrics = list(dict.fromkeys(table.metric))
    # the legends stand between the panels
    figure, (axes,) = line_panels(6.8 * len(metrics), 3.8, 1, len(metrics), gridspec_kw={"wspace": 1.0})
    numbers = {metric: _against_calls(axis, table, metric) for axis, metric in zip(axes, metrics)}
    alt = "; beside it ".join(_of_calls(metric, own) for metric, own in numbers.items())
    return Picture(figure, numbers, title, f"{title}: {alt}")


def quality_against(table: pd.DataFrame, x: str, y: str, title: str) -> Picture:
    """Metric `y` against `x` of the same cell (log-log): one line a method, its network calls in the markers.

    The numbers hold `y` alone: `x` may be a time, which never repeats. Raises ValueError when no cell of the
    table has both metrics, or one has a metric twice.
    """
    cells = table[table.metric.isin([x, y])]
    if (twice := cells.duplicated(["method", "metric", "nfe"])).any():
        cell = cells[twice].iloc[0]
        raise ValueError(f"{cell.method} has more than one '{cell.metric}' at {cell.nfe} network calls")
    cost, quality = (cells[cells.metric == metric] for metric in (x, y))
    both = quality.merge(cost[["method", "nfe", "value"]], on=["method", "nfe"], suffixes=("", "_x"))
    if both.empty:
        raise ValueError(f"no method has both '{x}' and '{y}' at one number of network calls")
    figure, ((axis,),) = line_panels(6.4, 4.2)
    numbers = {}
    for k, (method, line) in enumerate(both.groupby("method", sort=False)):
        line = line.sort_values("nfe")
        # each line above the last with its text, so that a covered marker hides its number too
        above = 3 + k
        numbers[method] = cell_line(axis, line, "value_x", method, ms=13, mec="white", zorder=above)
        for row in line.itertuples():
            inside = {"ha": "center", "va": "center_baseline", "fontsize": 6.5, "color": "white"}
            axis.annotate(str(int(row.nfe)), (row.value_x, row.value), zorder=above + 0.5, **inside)
    axis.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    log_ticks(axis.xaxis)
    log_ticks(axis.yaxis)
    legend_beside(axis, title="network calls in the markers")
    alt = f"{title}: {y} against {x}, network calls in the markers, for {'; '.join(numbers)}"
    return Picture(figure, numbers, title, alt)


def reach(ledger: pd.DataFrame) -> np.ndarray:
    """(value - threshold) in half-widths of the interval: > 1 supported, < -1 contradicted, NaN: none."""
    threshold = ledger.statistic.str.extract(r"; claimed > ([^;]+)")[0].astype(float)
    # of objects where an empty ledger was put beside it
    value, low, high = (ledger[name].astype(float) for name in ("value", "low", "high"))
    half = (high - low) / 2
    distance = (value - threshold).to_numpy()
    return np.where(np.isfinite(half) & (half > 0), distance / half.where(half > 0, 1), np.nan)


def forest(ledger: pd.DataFrame, title: str) -> Picture:
    """A line a claim, under its paper: the distance from the threshold with its 95 % interval.

    Units differ from claim to claim, so the unit here is half the claim's own interval: one that ends beyond
    zero is decided. A full marker is an interval over training seeds, which speaks of the method; a hollow
    one is over sampling seeds, which speaks of these trainings alone.
    """
    ledger = ledger.assign(reach=reach(ledger)).sort_values("paper", kind="stable")
    papers = list(dict.fromkeys(ledger.paper))
    figure, axes = line_panels(8.5, 0.21 * (len(ledger) + 1.6 * len(papers)) + 0.9)
    axis, place, places, names, numbers = axes[0, 0], 0.0, [], [], {}
    for paper in papers:
        place += 1.6
        axis.text(-REACH - 0.6, place - 0.9, paper, ha="left", va="center", fontsize=9, weight="bold")
        for row in ledger[ledger.paper == paper].itertuples():
            colour, marker = LOOK[row.verdict]
            face = "white" if "sampling" in row.over else colour
            known = bool(np.isfinite(row.reach))
            at = float(np.clip(row.reach, -REACH, REACH)) if known else 0.0
            arrow = known and abs(row.reach) > REACH
            own = (">" if at > 0 else "<") if arrow else marker
            if known and not arrow:
                axis.plot([at - 1, at + 1], [place, place], color=colour, lw=1.4)
            if known:
                axis.plot(at, place, own, color=colour, mfc=face, ms=5)
            else:
                why = "its seeds agree" if np.isfinite(row.high) else "one seed: no interval"
                axis.text(0.15, place, why, va="center", fontsize=7, color=colour)
            numbers[row.claim] = [row.verdict, round(at, 2) if known else None]
            places.append(place)
            names.append(row.claim)
            place += 1
    axis.axvline(0, color="#333333", lw=0.8)
    axis.set_yticks(places, labels=names, fontsize=7)
    axis.set(ylim=(place, 0), xlim=(-REACH - 0.6, REACH + 0.6))
    axis.set_xlabel("distance from the threshold, in half-widths of the 95 % interval", fontsize=8)
    for verdict, (colour, marker) in LOOK.items():
        axis.plot([], [], marker, color=colour, label=verdict, ls="")
    axis.plot([], [], "o", color="#333333", mfc="white", label="over sampling seeds", ls="")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.2, "ncols": 4}
    axis.legend(**below, frameon=False, fontsize=8)
    figure.tight_layout()
    counts = ", ".join(f"{(ledger.verdict == verdict).sum()} {verdict}" for verdict in LOOK)
    alt = f"{title}: {len(ledger)} claims, {counts}; by paper, each by its distance from the threshold"
    return Picture(figure, numbers, title, alt)
