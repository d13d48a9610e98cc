"""How far each choice of a protocol moves a number, by method."""

import pandas as pd

from ..findings import rivals
from .picture import Picture, legend_beside, line_panels, stroke


def effects_picture(effects: pd.DataFrame, title: str) -> Picture:
    """A line a choice, a dot a method: the change with its deviation over sampling seeds.

    `effects` is as protocol_effects.effects returns it. The dashed lines lie where a change is as large
    as the difference between the two methods.
    """
    choices, methods = list(dict.fromkeys(effects.choice)), list(dict.fromkeys(effects.method))
    figure, ((axis,),) = line_panels(6.4, 0.34 * len(choices) + 0.9)
    numbers: dict[str, dict[str, float]] = {choice: {} for choice in choices}
    for k, method in enumerate(methods):
        part = effects[effects.method == method]
        places = [choices.index(choice) + 0.2 * (k - (len(methods) - 1) / 2) for choice in part.choice]
        look = {"color": stroke(method)["color"], "ls": "", "marker": "os^D"[k % 4], "ms": 5, "capsize": 2}
        axis.errorbar(part.change, places, xerr=part.deviation.fillna(0), label=method, **look)
        for choice, change in zip(part.choice, part.change):
            numbers[choice][method] = round(float(change), 4)
    gap = abs(float(rivals(effects)[2]))
    for side in (-gap, gap):
        axis.axvline(side, color="#888888", lw=1, ls="--", label="their difference" if side > 0 else None)
    axis.axvline(0, color="#333333", lw=0.8)
    axis.set_yticks(range(len(choices)), labels=choices, fontsize=8)
    axis.set(ylim=(len(choices) - 0.5, -0.5), xlabel="change of FID")
    legend_beside(axis)
    alt = f"{title}: the change of FID by {'; '.join(choices)}, for {' and '.join(methods)}"
    return Picture(figure, numbers, title, alt)
