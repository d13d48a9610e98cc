"""The claims that the text-to-image tables test: what the paper says of SCFlow and InstaFlow, on the data set that it was really run on.

The paper gives a distilled rectified flow as what collapses beyond one step, and SCFlow as what does not, sampled without
guidance (arXiv 2412.16906). The bars are this repository's, for the paper names none, and so are the claims about attributes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from .claims import Claim, values_of
from .measure_texts import ATTRIBUTES, CLIP_SCORE

PAPER_SCFLOW = "arXiv 2412.16906"
FID, AGREEMENT = "FID", "PSNR to N = 1"
# This repository's readings of "no worse", "good enough to teach" and "as good as its teacher"
HOLDS, TEACHES, KEEPS = 1.1, 0.85, 0.9
# and of "needs no guidance": what guidance may still add to the share of attributes that are right, or to the CLIP score
GAINS = {ATTRIBUTES: 0.01, CLIP_SCORE: 0.5}


def text_claims(rows: pd.DataFrame, table: str, data: str, guided: str, teacher_calls: int) -> list[Claim]:
    """What is said of a text-to-image student, on the measured rows of its table.

    `guided` is the row of SCFlow under guidance, and `teacher_calls` the network calls at which the teacher is judged. Where
    no probe has read the pictures, the CLIP score speaks for what they show, and nothing is claimed of attributes. Raises
    KeyError when a method was not measured at the calls that a claim needs, and ValueError when numbers that are compared
    have different seeds or protocols.
    """
    short, probed = table.rpartition("-")[2], bool((rows.metric == ATTRIBUTES).any())
    shows = ATTRIBUTES if probed else CLIP_SCORE

    def claim(
        name: str, statement: str, said: str, values: np.ndarray, over: str, threshold: float = 0.0
    ) -> Claim:
        return Claim(
            f"{short}-{name}",
            PAPER_SCFLOW,
            f"{statement} ({data})",
            said,
            tuple(values),
            table,
            threshold,
            over,
        )

    def change(name: str, statement: str, metric: str, sign: int) -> Claim:
        """InstaFlow's metric grows (`sign` 1) or falls (-1) from one call to four."""
        (one, four), over = values_of(rows, [("instaflow", 1), ("instaflow", 4)], metric)
        larger, smaller = (4, 1) if sign > 0 else (1, 4)
        said = f"{metric}(InstaFlow, N={larger}) - {metric}(InstaFlow, N={smaller})"
        return claim(name, statement, said, sign * (four - one), over)

    (one, four), over_holds = values_of(rows, [("scflow", 1), ("scflow", 4)], FID)
    (student, taught), over_student = values_of(rows, [("scflow", 1), ("si", teacher_calls)], shows)
    (plain, told), over_guided = values_of(rows, [("scflow", 1), (guided, 2)], shows)
    (fid_student, fid_rival), over_rival = values_of(rows, [("scflow", 1), ("instaflow", 1)], FID)
    (score_student, score_rival), over_score = values_of(rows, [("scflow", 4), ("instaflow", 4)], CLIP_SCORE)
    (agrees, apart), over_agrees = values_of(rows, [("scflow", 4), ("instaflow", 4)], AGREEMENT)
    own = "; the bar is this repository's"
    found = [
        change("instaflow-fid-rises", "a rectified flow distilled to one step gets worse beyond it", FID, 1),
        change("instaflow-shows-less", "a rectified flow distilled to one step shows less of the caption beyond it", shows, -1),
        claim(
            "scflow-holds", f"SCFlow gets no worse beyond one step{own}, FID within a factor {HOLDS}",
            f"log({HOLDS}) - log(FID(SCFlow, N=4) / FID(SCFlow, N=1))", np.log(HOLDS) - np.log(four / one), over_holds,
        ),
        claim("scflow-beats-instaflow-at-1", "SCFlow beats InstaFlow at one step", "FID(InstaFlow, N=1) - FID(SCFlow, N=1)", fid_rival - fid_student, over_rival),
        claim(
            "scflow-beats-instaflow-clip-at-4", "SCFlow fits its captions better than InstaFlow at four steps",
            f"{CLIP_SCORE}(SCFlow, N=4) - {CLIP_SCORE}(InstaFlow, N=4)", score_student - score_rival, over_score,
        ),
        claim(
            "scflow-agrees-more-than-instaflow", "SCFlow's images agree across steps better than InstaFlow's",
            "PSNR(N=4 to N=1, SCFlow) - PSNR(N=4 to N=1, InstaFlow)", agrees - apart, over_agrees,
        ),
        claim(
            "no-guidance-at-sampling", f"the student needs no guidance at sampling: it adds less than {GAINS[shows]:g} to the {shows}{own}",
            f"{GAINS[shows]:g} - ({shows}(SCFlow guided, N=1) - {shows}(SCFlow, N=1))", GAINS[shows] - (told - plain), over_guided,
        ),
    ]  # fmt: skip
    if not probed:
        return found
    (teacher,), over_teacher = values_of(rows, [("si", teacher_calls)], ATTRIBUTES)
    return [
        *found,
        claim("teacher-shows-captions", f"the teacher shows {TEACHES:.0%} of what captions say{own}", f"{ATTRIBUTES}(teacher)", teacher, over_teacher, TEACHES),
        claim(
            "student-keeps-captions", f"SCFlow at one step shows {KEEPS:.0%} of what its teacher shows{own}",
            f"{ATTRIBUTES}(SCFlow, N=1) - {KEEPS:g} {ATTRIBUTES}(teacher)", student - KEEPS * taught, over_student,
        ),
    ]  # fmt: skip


def claims_of(experiment: Experiment, rows: pd.DataFrame) -> list[Claim]:
    """The claims that an experiment's table tests, from its measured `rows`. Raises as above."""
    settings = experiment.settings
    guided = next(
        f"scflow-{solver}"
        for solver in settings.sampling.solvers.get("scflow", {})
        if solver.startswith("guided-")
    )
    calls = int(rows[rows.method == "si"].nfe.max())
    return text_claims(rows, experiment.name, experiment.data_name, guided, calls)
