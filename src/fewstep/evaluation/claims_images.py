"""The claims that the image tables test, on the data set that a table was really run on.

Each table compares its methods by FID, and with the teacher's own samples by T-FID. `data` names the images behind
the numbers (a table keeps its published name where a small tier stands other images in for them), and every
statement says it. Two of the papers' own limits carry over: the published FID cells of self-distillation are each
the best of several checkpoints, chosen by the FID itself, and print no ESD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from .claims import Claim, calls_to_match, values_of
from .claims_checkerboard import PAPER_FMM, PAPER_SELF, RIVALS, instability

FID, T_FID = "FID", "T-FID"
# This repository's reading of "comparable": the paper gives none
FACTOR = 1.5
Logs = Mapping[str, Sequence[Mapping[str, np.ndarray]]]


def _short(table: str) -> str:
    """What distinguishes a table's claims from those of the others of its paper: "fmm-cifar10" -> "cifar10"."""
    return table.rpartition("-")[2]


def _most_calls(rows: pd.DataFrame, method: str, metric: str) -> int:
    counts = rows[(rows.method == method) & (rows.metric == metric)].nfe
    if counts.empty:
        raise KeyError(f"no row {method}, {metric}: `sampling.steps` in params.yaml must draw it")
    return int(counts.max())


def _less_stable(logs: Logs, loose: str, steady: str, table: str, data: str) -> Claim:
    """The gradient norm of `loose` is less stable than that of `steady`; both are labels of `logs`.

    Logs are training, so these values always run over training seeds. Raises KeyError for a label without logs and
    ValueError when the two have different numbers of seeds.
    """
    for label in (loose, steady):
        if not logs.get(label):
            raise KeyError(f"no training log of {label}; there are {', '.join(logs)}")
    # over as many steps as both have: a longer run has more time to settle
    length = min(len(log["gradient_norm"]) for label in (loose, steady) for log in logs[label])
    spread = {
        label: [instability(log["gradient_norm"][:length]) for log in logs[label]]
        for label in (loose, steady)
    }
    ratios = tuple(float(np.log(a / b)) for a, b in zip(spread[loose], spread[steady], strict=True))
    return Claim(
        f"{_short(table)}-{loose.lower()}-gradient-less-stable-than-{steady.lower()}", PAPER_SELF,
        f"{loose}'s gradient norm is less stable than {steady}'s ({data})",
        f"log of the ratio of (99th percentile / median) of the gradient norm, {loose} over {steady}", ratios, table,
    )  # fmt: skip


def distillation_claims(rows: pd.DataFrame, logs: Logs, table: str, data: str) -> list[Claim]:
    """What is said of distilling a velocity into a flow map, on the measured rows of one image table.

    `logs[label]` holds one training log a training seed. Raises KeyError when a method was not measured or not
    logged, and ValueError when methods that are compared have different seeds.
    """
    short, most = _short(table), _most_calls(rows, "si", FID)
    (lmd, emd, many), over = values_of(rows, [("lmd", 2), ("emd", 2), ("si", most)], FID)
    (lmd_teacher, emd_teacher), over_teacher = values_of(rows, [("lmd", 2), ("emd", 2)], T_FID)
    curve = rows[(rows.method == "si") & (rows.metric == FID)]
    fewer = tuple(calls / 2 for calls in calls_to_match(curve, lmd, str(lmd.index.name)))
    return [
        Claim(
            f"{short}-lmd-beats-emd-at-2", PAPER_FMM, f"LMD beats EMD at two steps ({data})",
            "FID(EMD, N=2) - FID(LMD, N=2)", tuple(emd - lmd), table, over=over,
        ),
        Claim(
            f"{short}-lmd-nearer-teacher-at-2", PAPER_FMM, f"LMD follows its teacher more closely than EMD at two steps ({data})",
            "T-FID(EMD, N=2) - T-FID(LMD, N=2)", tuple(emd_teacher - lmd_teacher), table, over=over_teacher,
        ),
        Claim(
            f"{short}-lmd-two-steps-near-teacher", PAPER_FMM,
            f"LMD at two steps is comparable to the teacher's many ({data}); the bar, FID within a factor {FACTOR}, is this repository's",
            f"log({FACTOR}) - log(FID(LMD, N=2) / FID(SI, N={most}))", tuple(np.log(FACTOR) - np.log(lmd / many)), table, over=over,
        ),
        Claim(
            f"{short}-ten-times-fewer-calls", PAPER_FMM, f"equal quality with 10 to 20 times fewer network calls, LMD at two steps ({data})",
            "Euler calls of the teacher that reach the FID of LMD at N=2, divided by 2", fewer, table, threshold=10, over=over,
        ),
        _less_stable(logs, "EMD", "LMD", table, data),
    ]  # fmt: skip


def self_distillation_claims(rows: pd.DataFrame, logs: Logs, table: str, data: str) -> list[Claim]:
    """What the follow-up says of self-distillation, on the measured rows of one image table.

    LSD is published as the best at every number of steps here, N = 16 included, unlike on the checkerboard.
    `logs[label]` holds one training log a training seed. Raises KeyError when a method was not measured or not
    logged, and ValueError when methods that are compared have different seeds.
    """
    claims = []
    for n in (1, 2, 4, 8, 16):
        (lsd, *rivals), over = values_of(rows, [("lsd", n), *((rival, n) for rival in RIVALS)], FID)
        best = pd.concat(rivals, axis=1).min(axis=1)
        claims.append(
            Claim(
                f"{_short(table)}-lsd-best-at-{n}", PAPER_SELF,
                f"LSD beats the best of ESD, PSD-M and PSD-U at N = {n} ({data}); published cells: the best of several checkpoints",
                f"min FID(ESD, PSD-M, PSD-U) - FID(LSD), N={n}", tuple(best - lsd), table, over=over,
            )
        )  # fmt: skip
    return claims + [_less_stable(logs, "ESD", steady, table, data) for steady in ("LSD", "PSD-M")]


def claims_of(experiment: Experiment, rows: pd.DataFrame, logs: Logs) -> list[Claim]:
    """The claims that an experiment's table tests: those of distillation where a teacher is in it, else those of self-distillation.

    `rows` are its measured rows and `logs` its trainings'. Raises as the two functions above.
    """
    kind = distillation_claims if experiment.settings.metrics.reference else self_distillation_claims
    return kind(rows, logs, experiment.name, experiment.settings.training.data)
