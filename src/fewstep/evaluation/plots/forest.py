"""All claims in one picture, a forest plot: how far each lies from its threshold, by paper."""

import numpy as np
import pandas as pd

from .picture import Picture, line_panels

# colour and marker by verdict: the marker too, for whoever does not tell the colours apart
LOOK = {"supported": ("#0072B2", "o"), "undecided": ("#888888", "D"), "contradicted": ("#D55E00", "s")}
# half-widths of an interval beyond which a claim is drawn at the edge, as an arrow
REACH = 8.0


def reach(ledger: pd.DataFrame) -> np.ndarray:
    """(value - threshold) in half-widths of the interval, NaN where there is no interval.

    It lies above 1 where the claim is supported, and below -1 where it is contradicted.
    """
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
