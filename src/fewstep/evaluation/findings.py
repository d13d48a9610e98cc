"""A sentence of finding for below each table and picture: what the numbers say, and nothing more."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .claims import Logs
from .measure import HIGHER_IS_BETTER
from .sample import EXACT
from .statistics import instability
from .tables import floor

WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()
UNTRAINED = "Nothing was trained here: the weights are published ones."
DEGREES = {"higher": "highest", "lower": "lowest"}


def _count(n: int, noun: str = "network call") -> str:
    word = WORDS[n] if n < len(WORDS) else str(n)
    return f"{word} {noun}{'' if n == 1 else 's'}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _names(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _measured(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The cells of a metric that hold a number, without the exact sampler's."""
    return table[(table.metric == metric) & (table.method != EXACT) & table.value.notna()]


def _better(metric: str) -> str:
    return "higher" if metric in HIGHER_IS_BETTER else "lower"


def _best(cells: pd.DataFrame, metric: str) -> tuple[str, str, pd.DataFrame]:
    """The methods whose number is the best as far as it is shown, that number, and its cells."""
    value = _number(cells.value.max() if _better(metric) == "higher" else cells.value.min())
    ties = cells[cells.value.map(_number) == value]
    return _names(ties.method.unique()), value, ties


def best(table: pd.DataFrame, metric: str) -> str:
    """Which method is the best in the fewest network calls, and how it, alone, stands in the most."""
    if (cells := _measured(table, metric)).empty:
        return f"{metric} was not measured."
    few = int(cells.nfe.min())
    names, value, _ = _best(cells[cells.nfe == few], metric)
    text = f"{DEGREES[_better(metric)].capitalize()} {metric} in {_count(few)}: {names}, {value}"
    own = cells[(cells.method == names) & (cells.nfe > few)].sort_values("nfe")
    if len(own):
        text += f"; in {_count(own.nfe.iloc[-1])} it has {_number(own.value.iloc[-1])}"
    return f"{text}."


def overall(table: pd.DataFrame, metric: str) -> str:
    """The best number of a metric in the table, with its method and network calls."""
    if (cells := _measured(table, metric)).empty:
        return f"{metric} was not measured."
    names, value, own = _best(cells, metric)
    calls = f" in {_count(own.nfe.iloc[0])}" if len(own) == 1 else ""
    return f"The {DEGREES[_better(metric)]} {metric} is {value}, that of {names}{calls}."


def above_floor(table: pd.DataFrame, metric: str) -> str:
    """How far the best method is from the exact sampler; empty where none was sampled."""
    exact, cells = table[(table.metric == metric) & (table.method == EXACT)], _measured(table, metric)
    if exact.empty or cells.empty or not np.isfinite(exact.value).all():
        return ""
    least, (names, value, _) = _number(floor(table, metric)), _best(cells, metric)
    return f"The exact sampler scores {least} in {metric}, and the best of the others, {names}, {value}."


def beside_published(table: pd.DataFrame) -> str:
    """How many numbers of a table stand beside a published one, and how many of those are the better ones."""
    cells = table[table.published.notna() & table.value.notna()]
    if cells.empty:
        return "No number of this table stands beside a published one: there is none by the same protocol."
    signs = np.where(cells.metric.isin(list(HIGHER_IS_BETTER)), 1, -1)
    better = int((signs * (cells.value - cells.published) > 0).sum())
    numbers = _count(len(cells), "number").capitalize()
    return f"{numbers} beside published ones; better than published: {better}."


def gain_with_calls(table: pd.DataFrame, metric: str) -> str:
    """Which methods are better in their most network calls than in their fewest, and which are not."""
    by_method = _measured(table, metric).sort_values("nfe").groupby("method")
    ends = by_method.agg(few=("value", "first"), most=("value", "last"), calls=("nfe", "nunique"))
    ends = ends.reindex(table.method.unique()).query("calls > 1")
    gains = ends.most > ends.few if _better(metric) == "higher" else ends.most < ends.few
    if ends.empty:
        return ""
    said = f"{metric} is {_better(metric)} in the most network calls than in the fewest for"
    if not gains.any():
        return f"{said} no method."
    others = "" if gains.all() else f"; it is not for {_names(ends.index[~gains])}"
    return f"{said} {_names(ends.index[gains])}{others}."


def stability(logs: Logs) -> str:
    """Whose gradient norm jumps the farthest above its median, whose the least, and which are not finite."""
    found, diverged = {}, []
    for label, own in logs.items():
        norms = [log["gradient_norm"] for log in own]
        if not all(np.isfinite(n).all() for n in norms):
            diverged.append(label)
        elif norms and all(len(n) and np.median(n[len(n) // 10 :]) > 0 for n in norms):
            found[label] = float(np.mean([instability(n) for n in norms]))
    text = f"The gradient norm is not finite in a training of {_names(diverged)}. " if diverged else ""
    values = sorted(found.values())
    if values and (high := _number(values[-1])) != (low := _number(values[0])):
        of = {v: _names([label for label in found if _number(found[label]) == v]) for v in (high, low)}
        what = "The 99th percentile of the gradient norm over its median, a mean over seeds,"
        text += f"{what} is largest for {of[high]}, {high}, and smallest for {of[low]}, {low}."
    return text.strip()


def verdicts(ledger: pd.DataFrame) -> str:
    """How many claims are supported, contradicted and undecided, by what their intervals run over."""
    if ledger.empty:
        return "No claim of the papers is tested here."
    sampling, parts = ledger.over.str.contains("sampling"), []
    for part, where in ((~sampling, "over training seeds"), (sampling, "over sampling seeds alone")):
        found = list(ledger[part].verdict)
        if found:
            said = [f"{found.count(v)} {v}" for v in ("supported", "contradicted", "undecided")]
            parts.append(f"{_count(len(found), 'claim')} {where}: {', '.join(said)}")
    return f"{'; '.join(parts)}.".capitalize()


def cheapest(table: pd.DataFrame, metric: str) -> str:
    """Which row of a table of times takes the least, and which the most."""
    if (cells := _measured(table, metric)).empty:
        return f"{metric} was not measured."
    ends = (cells.loc[pick] for pick in (cells.value.idxmin(), cells.value.idxmax()))
    low, high = (f"{_number(r.value)} ({r.method}, {_count(r.nfe)})" for r in ends)
    return f"{metric}: from {low} to {high}."


def tenths(values: np.ndarray) -> tuple[float, float]:
    """The means of the first and of the last tenth of what was logged, (steps,)."""
    tenth = max(len(values) // 10, 1)
    return values[:tenth].mean(), values[-tenth:].mean()


def rivals(effects: pd.DataFrame) -> tuple[str, str, float]:
    """The two methods of protocol_effects.effects, and the second's FID less the first's."""
    own = effects.drop_duplicates("method").set_index("method").own
    first, second = own.index
    return first, second, own[second] - own[first]


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """The root mean square difference."""
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def classifier(described: Mapping[str, Any]) -> str:
    """On `features.prepare`'s description."""
    if described["accuracy"] is None:
        return f"{described['features']} features an image, published weights; {described['images']}."
    right = f"{100 * described['accuracy']:.1f} %"
    return f"The classifier is right about {right} of the images that it has not seen."


def reconstruction(described: Mapping[str, Any]) -> str:
    """On `autoencoder.train`'s description."""
    parts = [f"{own['PSNR']:.1f} dB on {part}" for part, own in described["figures"].items()]
    return f"Reconstructions reach a PSNR of {' and '.join(parts)}."


def channels(described: Mapping[str, Any]) -> str:
    """On `latents.encode_all`'s description."""
    stds = described["scale"] * np.array(described["channels"]["std"])
    said = f"The standard deviations of the {len(stds)} scaled channels lie between"
    return f"{said} {stds.min():.2f} and {stds.max():.2f}; the noise that a flow starts from has 1."


def retrieval(described: Mapping[str, Any]) -> str:
    """On `clip.train`'s description."""
    parts = []
    for part, own in described["figures"].items():
        found, pairs = own["image to text"], own["pairs"]
        chance = f"({part}; chance {1 / pairs:.1%})"
        parts.append(f"{found:.1%} of {pairs} pictures find their own caption {chance}")
    unmeasured = "Its retrieval is not measured: there are no pairs to measure it on"
    return f"{'; '.join(parts) or unmeasured}."


def images(pixels: np.ndarray) -> str:
    """On images (count, channels, height, width) in [-1, 1]."""
    count, channels, height, width = pixels.shape
    mean = f"the mean of their values in [-1, 1] is {pixels.mean():.2f}"
    return f"{count} images, {channels} x {height} x {width}; {mean}."


def apart(rows: Mapping[str, np.ndarray], flipped: bool = False) -> str:
    """How far each row of images in [-1, 1] is from the one above it; with `flipped`, the last mirrored."""
    names, said = list(rows), []
    for above, below in zip(names, names[1:]):
        other = rows[below][..., ::-1] if flipped and below == names[-1] and len(names) > 2 else rows[below]
        said.append(f"{above} and {below} {gap(rows[above], other):.2f}")
    return f"Root mean square differences of values in [-1, 1]: {', '.join(said)}."


def log(curves: Mapping[str, np.ndarray]) -> str:
    """On logged quantities, (steps,) each: what they were at first and at last, a tenth of training each."""
    if not curves:
        return UNTRAINED
    said = ["{}: {:.3g}, then {:.3g}".format(name, *tenths(values)) for name, values in curves.items()]
    return f"Means over the first and the last tenth of training: {'; '.join(said)}."


def by_protocol(effects: pd.DataFrame) -> str:
    """Which choice of a protocol moves FID most, and under which the ranking of the two methods is another.

    `effects` is as protocol_effects.effects returns it.
    """
    (first, second, gap), sizes = rivals(effects), effects.change.abs()
    largest, text = sizes.max(), "No choice moves FID"
    if largest > 0:
        ties = effects[sizes.map(_number) == _number(largest)]
        most = _names([f"'{row.choice}' ({row.method})" for row in ties.itertuples()])
        text = f"FID moves most by {most}: {_number(largest)}"
    if gap == 0:
        return f"{text}. {first} and {second} have the same FID by the own protocol."
    if largest > 0:
        text += f", {_number(largest / abs(gap))} times the difference between {first} and {second}"
    wide = effects.pivot(index="choice", columns="method", values="value")
    between = np.sign(wide[second] - wide[first])
    turned = [choice for choice in dict.fromkeys(effects.choice) if between[choice] != np.sign(gap)]
    lower, count = (first if gap > 0 else second), _count(len(between), "choice")
    which = "none of" if len(turned) == len(between) else "all of" if turned else "each of"
    but = f" but {_names([repr(choice) for choice in turned])}" if which == "all of" else ""
    return f"{text}. {lower} has the lower FID by the own protocol, and by {which} {count}{but}."
