"""The claims that the two-dimensional tables test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .claims import Claim, calls_to_match, per_seed

FMM, SELF = "fmm-checkerboard", "selfdistill-checkerboard"
PAPER_FMM, PAPER_SELF = "arXiv 2406.07507", "arXiv 2505.18825"
EQUAL = "ESD, shared settings"
RIVALS = ("esd", "psd-m", "psd-u")
CLOSE = 0.05


def fmm_claims(rows: pd.DataFrame) -> list[Claim]:
    """What Flow Map Matching says, on the measured rows of its checkerboard experiment."""
    lmd, emd = per_seed(rows, "lmd", 1), per_seed(rows, "emd", 1)
    teacher = rows[(rows.method == "si") & (rows.metric == "KL to target")]
    many = per_seed(rows, "si", int(teacher.nfe.max()))
    calls = calls_to_match(teacher, lmd)
    gap = (per_seed(rows, "pfmm", 1) - per_seed(rows, "fmm", 4)).abs()
    return [
        Claim("lmd-beats-emd", PAPER_FMM, "LMD beats EMD at one step", "KL(EMD, N=1) - KL(LMD, N=1)", tuple(emd - lmd), FMM),
        Claim(
            "lmd-one-step-near-teacher", PAPER_FMM, f"one LMD step comes within {CLOSE} KL of the teacher's many",
            f"{CLOSE} - (KL(LMD, N=1) - KL(SI, N={int(teacher.nfe.max())}))", tuple(CLOSE - (lmd - many)), FMM,
        ),
        Claim(
            "ten-times-fewer-calls", PAPER_FMM, "equal quality with 10 to 20 times fewer network calls",
            "Euler calls of the teacher that reach the KL of one LMD step", calls, FMM, threshold=10,
        ),
        Claim(
            "pfmm-one-matches-fmm-four", PAPER_FMM, f"PFMM at one step matches FMM at four (KL within {CLOSE})",
            f"{CLOSE} - |KL(PFMM, N=1) - KL(FMM, N=4)|", tuple(CLOSE - gap), FMM,
        ),
    ]  # fmt: skip


def instability(norms: np.ndarray) -> float:
    """How far gradient norms jump above their usual size: the 99th percentile over the median, past a tenth of training."""
    settled = norms[len(norms) // 10 :]
    return float(np.percentile(settled, 99) / np.median(settled))


def self_claims(rows: pd.DataFrame, logs: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> list[Claim]:
    """What the follow-up says of self-distillation; `logs[label]` holds one training log a seed."""
    claims = []
    for n in (1, 2, 4, 8, 16):
        lsd = per_seed(rows, "lsd", n)
        best = pd.concat([per_seed(rows, rival, n) for rival in RIVALS], axis=1).min(axis=1)
        wins = n != 16
        margin = best - lsd if wins else lsd - best
        claims.append(
            Claim(
                f"lsd-{'best' if wins else 'not-best'}-at-{n}", PAPER_SELF,
                f"LSD {'beats' if wins else 'does not beat'} the best of ESD, PSD-M and PSD-U at N = {n}",
                f"min KL(ESD, PSD-M, PSD-U) - KL(LSD), N={n}" if wins else f"KL(LSD) - min KL(ESD, PSD-M, PSD-U), N={n}",
                tuple(margin), SELF,
            )
        )  # fmt: skip
    # LSD over as many steps as the comparison run has: a longer run has more time to settle
    spread = {
        label: [instability(log["gradient_norm"][: len(logs[EQUAL][0]["loss"])]) for log in logs[label]]
        for label in (EQUAL, "LSD")
    }
    ratio = np.log(np.array(spread[EQUAL]) / np.array(spread["LSD"]))
    claims.append(
        Claim(
            "esd-gradient-less-stable", PAPER_SELF, "ESD's gradient norm is less stable than LSD's (same network, batch and optimiser)",
            "log of the ratio of (99th percentile / median) of the gradient norm, ESD over LSD", tuple(ratio), SELF,
        )
    )  # fmt: skip
    return claims
