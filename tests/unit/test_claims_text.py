"""The claims of the text-to-image tables: verdicts known by hand, each from its own numbers, and what is
refused.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims

WOBBLE = np.array([0.0, 1.0, -1.0])
FID, CLIP, RIGHT, AGREEMENT = "FID", "CLIP score", "attribute accuracy", "PSNR to N = 1"
# the paper's story: (metric, method, calls) -> number
STORY = {
    (FID, "instaflow", 1): 24.0, (FID, "instaflow", 4): 103.0, (FID, "scflow", 1): 20.0,
    (FID, "scflow", 4): 18.0,
    (CLIP, "instaflow", 4): 24.0, (CLIP, "scflow", 4): 31.0, (AGREEMENT, "instaflow", 4): 12.0,
    (AGREEMENT, "scflow", 4): 22.0,
    (RIGHT, "instaflow", 1): 0.8, (RIGHT, "instaflow", 4): 0.6, (RIGHT, "scflow", 1): 0.88,
    (RIGHT, "scflow-guided-1.5", 2): 0.86,
    (RIGHT, "si", 8): 0.7, (RIGHT, "si", 32): 0.95,
}  # fmt: skip
NAMES = [
    "instaflow-fid-rises", "instaflow-shows-less", "scflow-holds", "scflow-beats-instaflow-at-1",
    "scflow-beats-instaflow-clip-at-4",
    "scflow-agrees-more-than-instaflow", "no-guidance-at-sampling", "teacher-shows-captions",
    "student-keeps-captions",
]  # fmt: skip


def measured(wobble=0 * WOBBLE, **changes) -> pd.DataFrame:
    """Three training seeds of the story; `changes` are numbers by metric, method and calls."""
    rows = []
    for (metric, method, nfe), value in (STORY | changes.get("of", {})).items():
        row = {
            "method": method,
            "label": method,
            "metric": metric,
            "nfe": nfe,
            "sample_seed": 0,
            "protocol": f"{metric} of 200",
        }
        rows += [row | {"train_seed": k, "value": float(value + w)} for k, w in enumerate(wobble)]
    return pd.DataFrame(rows)


def ledger_of(rows: pd.DataFrame) -> pd.DataFrame:
    experiment = SimpleNamespace(name="scflow-coco2017", data_name="scenes")
    found = claims.ledger(claims.evaluate(experiment, rows), "laptop")
    return found.assign(claim=found.claim.str.removeprefix("coco2017-")).set_index("claim")


def test_the_paper_s_story_is_supported():
    found = ledger_of(measured())
    assert list(found.index) == NAMES
    assert set(found.verdict) == {"supported"} and set(found.table) == {"scflow-coco2017"}
    expected = [79, 0.2, np.log(1.1) - np.log(18 / 20), 4, 7, 10, 0.01 + 0.02, 0.95, 0.88 - 0.9 * 0.95]
    assert found.value.to_list() == pytest.approx(expected)
    assert found.statement.str.contains("(scenes)", regex=False).all()


@pytest.mark.parametrize(
    "name, cell, number",
    [
        ("instaflow-fid-rises", (FID, "instaflow", 4), 20.0), ("instaflow-shows-less",
        (RIGHT, "instaflow", 4), 0.9), ("scflow-holds", (FID, "scflow", 4), 30.0),
        ("scflow-beats-instaflow-at-1", (FID, "scflow", 1), 25.0), ("scflow-beats-instaflow-clip-at-4",
        (CLIP, "scflow", 4), 20.0),
        ("scflow-agrees-more-than-instaflow", (AGREEMENT, "scflow", 4), 10.0), ("no-guidance-at-sampling",
        (RIGHT, "scflow-guided-1.5", 2), 0.95),
        ("teacher-shows-captions", (RIGHT, "si", 32), 0.8), ("student-keeps-captions",
        (RIGHT, "scflow", 1), 0.8),
    ],
)  # fmt: skip
def test_each_claim_falls_by_its_own_number(name, cell, number):
    assert ledger_of(measured(of={cell: number})).verdict[name] == "contradicted"


def test_without_a_probe_the_clip_score_speaks_and_nothing_is_claimed_of_attributes():
    told = {
        (CLIP, "instaflow", 1): 30.4,
        (CLIP, "scflow", 1): 30.9,
        (CLIP, "scflow-guided-1.5", 2): 31.1,
        (CLIP, "si", 32): 31.5,
    }
    rows = measured(of=told)
    found = ledger_of(rows[rows.metric != RIGHT])
    assert list(found.index) == NAMES[:-2] and set(found.verdict) == {"supported"}
    assert found.value[["instaflow-shows-less", "no-guidance-at-sampling"]].to_list() == pytest.approx(
        [30.4 - 24, 0.5 - 0.2]
    )


def test_a_difference_within_the_scatter_is_undecided():
    assert ledger_of(measured(0.2 * WOBBLE)).verdict["teacher-shows-captions"] == "undecided"


def test_a_claim_without_its_numbers_is_refused():
    rows = measured()
    with pytest.raises(ValueError, match="instaflow"):
        ledger_of(rows[~((rows.method == "instaflow") & (rows.nfe == 4))])
