"""The claims that SCFlow's table tests, on the data set that it was really run on.

The paper says that one model is good at one step and at a few, that its images agree across numbers of steps, and that
a rectified flow distilled to one step does neither (arXiv 2412.16906); of each loss, that it adds what it is there for.
The bars are this repository's, for the paper names none, and so are the claims about JPEG files and about flow maps:
their statements say so. `data` names the images behind the numbers, and every statement says it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from .claims import Claim, values_of
from .claims_images import Logs

PAPER_SCFLOW = "arXiv 2412.16906"
FID, AS_JPEG, AGREEMENT = "FID", "FID as JPEG", "PSNR to N = 1"
# This repository's readings of "as good" and "no worse": the paper gives none
NEAR, HOLDS = 1.5, 1.1
# The labels in statements and statistics, by method
NAMES = {
    "scflow": "SCFlow", "consistency": "consistency alone", "truncated": "truncated consistency", "adversarial": "truncated + adversarial",
    "reflow": "truncated + reflow", "bidirectional": "truncated + bidirectional", "distilled": "distilled rectified flow", "lmd": "LMD", "lsd": "LSD",
}  # fmt: skip


def scflow_claims(rows: pd.DataFrame, table: str, data: str) -> list[Claim]:
    """What is said of SCFlow, its losses and its rivals, on the measured rows of its table.

    Raises KeyError when a method was not measured at the steps that a claim needs, and ValueError when numbers that are
    compared have different seeds or protocols.
    """
    short = table.rpartition("-")[2]

    def less(name: str, statement: str, better: tuple[str, int], worse: tuple[str, int]) -> Claim:
        """FID of `better` is less than that of `worse`, both (method, N)."""
        (low, high), over = values_of(rows, [better, worse], FID)
        said = f"FID({NAMES[worse[0]]}, N={worse[1]}) - FID({NAMES[better[0]]}, N={better[1]})"
        return Claim(
            f"{short}-{name}",
            PAPER_SCFLOW,
            f"{statement} ({data})",
            said,
            tuple(high - low),
            table,
            over=over,
        )

    def within(name: str, statement: str, factor: float, few: int, many: int) -> Claim:
        """SCFlow's FID at `few` steps is at most `factor` times that at `many`, whichever is the larger number."""
        (own, other), over = values_of(rows, [("scflow", few), ("scflow", many)], FID)
        said = f"log({factor}) - log(FID(SCFlow, N={few}) / FID(SCFlow, N={many}))"
        statement = f"{statement} ({data}); the bar, FID within a factor {factor}, is this repository's"
        return Claim(
            f"{short}-{name}",
            PAPER_SCFLOW,
            statement,
            said,
            tuple(np.log(factor) - np.log(own / other)),
            table,
            over=over,
        )

    def agrees(name: str, statement: str, more: str, fewer: str) -> Claim:
        """Images of one noise at one step and at eight are nearer each other for `more` than for `fewer`."""
        (high, low), over = values_of(rows, [(more, 8), (fewer, 8)], AGREEMENT)
        said = f"PSNR(N=8 to N=1, {NAMES[more]}) - PSNR(N=8 to N=1, {NAMES[fewer]})"
        return Claim(
            f"{short}-{name}",
            PAPER_SCFLOW,
            f"{statement} ({data})",
            said,
            tuple(high - low),
            table,
            over=over,
        )

    def jpeg() -> Claim:
        """Storing SCFlow's samples as JPEG raises their FID."""
        ((lossless,), over), ((stored,), over_stored) = (
            values_of(rows, [("scflow", 1)], metric) for metric in (FID, AS_JPEG)
        )
        if over != over_stored or not stored.index.equals(lossless.index):
            raise ValueError(
                f"scflow at 1 has the {over} {list(lossless.index)} in FID and the {over_stored} {list(stored.index)} in FID as JPEG: they cannot be compared"
            )
        return Claim(
            f"{short}-jpeg-raises-fid", PAPER_SCFLOW,
            f"storing samples as JPEG, as the official script does before FID, raises SCFlow's FID at one step ({data}); this repository's claim, not the paper's",
            "FID as JPEG(SCFlow, N=1) - FID(SCFlow, N=1)", tuple(stored - lossless), table, over=over,
        )  # fmt: skip

    unsaid = "neither paper compares them"
    return [
        within("one-step-near-eight", "SCFlow at one step is as good as at eight", NEAR, 1, 8),
        within("four-steps-hold", "SCFlow gets no worse beyond one step", HOLDS, 4, 1),
        less(
            "distilled-worse-beyond-one-step",
            "a rectified flow distilled to one step gets worse beyond it",
            ("distilled", 1),
            ("distilled", 4),
        ),
        less(
            "scflow-beats-consistency-at-1",
            "SCFlow beats consistency alone at one step",
            ("scflow", 1),
            ("consistency", 1),
        ),
        agrees(
            "scflow-agrees-more-than-consistency",
            "SCFlow's images agree across steps better than those of consistency alone",
            "scflow",
            "consistency",
        ),
        agrees(
            "scflow-agrees-more-than-distilled",
            "SCFlow's images agree across steps better than those of a rectified flow distilled to one",
            "scflow",
            "distilled",
        ),
        less(
            "adversarial-lowers-fid-at-1",
            "the adversarial loss lowers FID at one step",
            ("adversarial", 1),
            ("truncated", 1),
        ),
        agrees(
            "reflow-agrees-more",
            "the reflow loss makes images agree better across steps",
            "reflow",
            "truncated",
        ),
        less(
            "bidirectional-lowers-fid-at-4",
            "the bidirectional loss lowers FID at four steps",
            ("bidirectional", 4),
            ("truncated", 4),
        ),
        jpeg(),
        less("scflow-beats-lmd-at-1", f"SCFlow beats LMD at one step; {unsaid}", ("scflow", 1), ("lmd", 1)),
        less("scflow-beats-lsd-at-1", f"SCFlow beats LSD at one step; {unsaid}", ("scflow", 1), ("lsd", 1)),
    ]


def claims_of(experiment: Experiment, rows: pd.DataFrame, logs: Logs | None = None) -> list[Claim]:
    """The claims that an experiment's table tests, from its measured `rows`; none is about the training's `logs`. Raises as above."""
    return scflow_claims(rows, experiment.name, experiment.data_name)
