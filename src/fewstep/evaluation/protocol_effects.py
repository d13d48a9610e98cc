"""The table protocol-sensitivity for readers: what each choice does to FID, and to a ranking."""

from dataclasses import asdict

import pandas as pd

from ..metrics.protocol import parse
from .findings import rivals
from .measures import FID
from .protocol_sensitivity import CHANGE, CHOICES


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """A row a choice and method: choice, method, own (FID), value, change, deviation (sampling seeds)."""
    cells = table.set_index(["metric", "method"])
    order = list(dict.fromkeys(table[table.metric == FID].method))
    found = []
    for name in (name for name in CHOICES if name in set(table.metric)):
        for method in order:
            changed = cells.loc[(name + CHANGE, method)]
            own, value = cells.value[FID, method], cells.value[name, method]
            values = {"own": own, "value": value, "change": changed.value, "deviation": changed.sd_sampling}
            found.append({"choice": name, "method": method} | values)
    return pd.DataFrame(found)


def shown(effects: pd.DataFrame) -> pd.DataFrame:
    """The choices down; for both methods FID and its change, then what it does to their difference."""
    (first, second, gap), rows = rivals(effects), {}
    usual = effects.drop_duplicates("method").assign(choice=FID, value=lambda row: row.own)
    for choice, part in pd.concat([usual, effects]).groupby("choice", sort=False):
        cells, row = part.set_index("method"), {}
        for method in (first, second):
            cell = cells.loc[method]
            deviation = "" if pd.isna(cell.deviation) else f" ± {cell.deviation:.2f}"
            row[method] = f"{cell.value:.2f}"
            row[f"{method}, change"] = "" if choice == FID else f"{cell.change:+.2f}{deviation}"
        between = cells.value[second] - cells.value[first]
        row[f"{second} less {first}"] = f"{between:+.2f}"
        largest = cells.change.abs().max()
        over = f"{largest / abs(gap):.2f}" if gap and choice != FID else ""
        row["largest change over the own difference"] = over
        row["lower"] = first if between > 0 else second if between < 0 else "neither"
        rows[choice] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def about(effects: pd.DataFrame) -> str:
    """What each choice of the table is, as Markdown."""
    return "\n".join(f"- **{name}**: {CHOICES[name]['about']}" for name in dict.fromkeys(effects.choice))


def protocols_shown(table: pd.DataFrame) -> pd.DataFrame:
    """What each choice has otherwise in its protocol than FID; the first row is FID's own, whole."""
    found = {name: asdict(parse(text)) for name, text in zip(table.metric, table.protocol)}
    usual, rows = found[FID], {FID: found[FID]}
    for name in (name for name in CHOICES if name in found):
        rows[name] = {field: text for field, text in found[name].items() if text != usual[field]}
    texts = [[own.get(field, "") for field in usual] for own in rows.values()]
    wide = pd.DataFrame(texts, index=list(rows), columns=list(usual), dtype=object)
    return wide.map(lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else value)
