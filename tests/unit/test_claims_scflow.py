"""SCFlow's claims: verdicts known by hand, each from its own numbers, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims

# over seeds: mean 0 and standard deviation 1, so that a cell's interval is mean +- 2.484 * scale
WOBBLE = np.array([0.0, 1.0, -1.0])
SEEDS = {"training seeds": "train_seed", "sampling seeds": "sample_seed"}
OVER = {"training seeds": "3 training seeds", "sampling seeds": "3 sampling seeds of one training"}
FID, JPEG, AGREEMENT = "FID", "FID as JPEG", "PSNR to N = 1"
# the paper's story: (method, N) -> number
STORY = {
    FID: {
        ("scflow", 1): 8.0, ("scflow", 4): 7.0, ("scflow", 8): 6.0, ("consistency", 1): 40.0,
        ("distilled", 1): 24.0, ("distilled", 4): 103.0,
        ("truncated", 1): 20.0, ("truncated", 4): 15.0, ("adversarial", 1): 9.0,
        ("bidirectional", 4): 10.0, ("lmd", 1): 30.0, ("lsd", 1): 25.0,
    },
    JPEG: {("scflow", 1): 9.5},
    AGREEMENT: {("scflow", 8): 25.0, ("consistency", 8): 15.0, ("distilled", 8): 12.0,
    ("truncated", 8): 18.0, ("reflow", 8): 21.0},
}  # fmt: skip
NAMES = [
    "one-step-near-eight", "four-steps-hold", "distilled-worse-beyond-one-step",
    "scflow-beats-consistency-at-1",
    "scflow-agrees-more-than-consistency", "scflow-agrees-more-than-distilled",
    "adversarial-lowers-fid-at-1", "reflow-agrees-more",
    "bidirectional-lowers-fid-at-4", "jpeg-raises-fid", "scflow-beats-lmd-at-1", "scflow-beats-lsd-at-1",
]  # fmt: skip


def measured(over: str = "training seeds", wobble=0 * WOBBLE, changes=()) -> pd.DataFrame:
    """Three seeds of the story; `changes` are ((metric, method, N), number)."""
    told = {
        (metric, *cell): value for metric, cells in STORY.items() for cell, value in cells.items()
    } | dict(changes)
    rows = []
    for (metric, method, nfe), value in told.items():
        row = {
            "method": method,
            "label": method,
            "metric": metric,
            "nfe": nfe,
            "train_seed": 0,
            "sample_seed": 0,
            "protocol": f"{metric} of 200",
        }
        rows += [row | {SEEDS[over]: k, "value": float(value + w)} for k, w in enumerate(wobble)]
    # what stands in the table and in no claim
    other = {
        "method": "si",
        "label": "SI",
        "metric": FID,
        "nfe": 64,
        "train_seed": 0,
        "sample_seed": 0,
        "value": 5.0,
        "protocol": "FID of 200",
    }
    return pd.DataFrame([*rows, other])


def ledger_of(rows: pd.DataFrame) -> pd.DataFrame:
    experiment = SimpleNamespace(name="scflow-celebahq", data_name="small faces")
    found = claims.ledger(claims.evaluate(experiment, rows, {}), "laptop")
    return found.assign(claim=found.claim.str.removeprefix("celebahq-")).set_index("claim")


@pytest.mark.parametrize("over", SEEDS)
def test_the_paper_s_story_is_supported(over):
    found = ledger_of(measured(over))
    assert list(found.index) == NAMES
    assert (
        set(found.verdict) == {"supported"}
        and set(found.table) == {"scflow-celebahq"}
        and set(found.paper) == {"arXiv 2412.16906"}
    )
    expected = [
        np.log(1.5) - np.log(8 / 6),
        np.log(1.1) - np.log(7 / 8),
        79,
        32,
        10,
        13,
        11,
        3,
        5,
        1.5,
        22,
        17,
    ]
    assert found.value.to_list() == pytest.approx(expected)
    assert found.statement.str.contains("(small faces)", regex=False).all()
    assert set(found.over) == {OVER[over]}


@pytest.mark.parametrize(
    "cell, value, turned",
    [
        # 1.5 x 6 is the bar at one step; at four, 1.1 x 8
        ((FID, "scflow", 8), 5.3, {"one-step-near-eight"}),
        ((FID, "scflow", 4), 8.9, {"four-steps-hold"}),
        ((FID, "distilled", 4), 23.0, {"distilled-worse-beyond-one-step"}),
        ((FID, "distilled", 1), 104.0, {"distilled-worse-beyond-one-step"}),
        ((FID, "consistency", 1), 7.5, {"scflow-beats-consistency-at-1"}),
        ((AGREEMENT, "consistency", 8), 26.0, {"scflow-agrees-more-than-consistency"}),
        ((AGREEMENT, "distilled", 8), 26.0, {"scflow-agrees-more-than-distilled"}),
        ((FID, "adversarial", 1), 21.0, {"adversarial-lowers-fid-at-1"}),
        ((FID, "truncated", 1), 8.5, {"adversarial-lowers-fid-at-1"}),
        ((AGREEMENT, "reflow", 8), 17.0, {"reflow-agrees-more"}),
        ((FID, "bidirectional", 4), 16.0, {"bidirectional-lowers-fid-at-4"}),
        ((FID, "truncated", 4), 9.0, {"bidirectional-lowers-fid-at-4"}),
        ((JPEG, "scflow", 1), 7.5, {"jpeg-raises-fid"}),
        ((FID, "lmd", 1), 7.9, {"scflow-beats-lmd-at-1"}),
        ((FID, "lsd", 1), 7.9, {"scflow-beats-lsd-at-1"}),
        ((AGREEMENT, "scflow", 8), 5.0, {"scflow-agrees-more-than-consistency",
        "scflow-agrees-more-than-distilled"}),
    ],
)  # fmt: skip
def test_each_claim_turns_with_its_own_numbers_and_no_other(cell, value, turned):
    found = ledger_of(measured(changes=[(cell, value)]))
    assert set(found.index[found.verdict == "contradicted"]) == turned
    assert set(found.verdict.drop(list(turned))) == {"supported"}


def test_bars_lie_where_the_statements_say():
    def verdict(name: str, cell, value: float) -> str:
        return ledger_of(measured(changes=[(cell, value)])).verdict[name]

    assert verdict("one-step-near-eight", (FID, "scflow", 8), 8 / 1.49) == "supported"
    assert verdict("one-step-near-eight", (FID, "scflow", 8), 8 / 1.51) == "contradicted"
    assert verdict("four-steps-hold", (FID, "scflow", 4), 8 * 1.09) == "supported"
    assert verdict("four-steps-hold", (FID, "scflow", 4), 8 * 1.11) == "contradicted"
    found = ledger_of(measured())
    assert "the bar, FID within a factor 1.5, is this repository's" in found.statement["one-step-near-eight"]
    assert "the bar, FID within a factor 1.1, is this repository's" in found.statement["four-steps-hold"]
    assert "this repository's claim, not the paper's" in found.statement["jpeg-raises-fid"]
    assert (
        found.statement[["scflow-beats-lmd-at-1", "scflow-beats-lsd-at-1"]]
        .str.contains("neither paper compares them")
        .all()
    )


def test_seeds_are_compared_pairwise():
    # every seed moves all numbers by as much as the claims differ
    found = ledger_of(measured(wobble=1.4 * WOBBLE))
    assert found.low["jpeg-raises-fid"] == pytest.approx(1.5) == found.high["jpeg-raises-fid"]


def test_two_trainings_leave_the_interval_to_sampling_seeds():
    rows = pd.concat([measured("sampling seeds").assign(train_seed=k) for k in (0, 1)])
    assert set(ledger_of(rows).over) == {"3 sampling seeds of 2 trainings"}


def test_an_interval_that_holds_the_bar_decides_nothing():
    rows = measured()
    lsd = rows.method == "lsd"
    rows.loc[lsd, "value"] = 8.5 + WOBBLE
    assert ledger_of(rows).verdict["scflow-beats-lsd-at-1"] == "undecided"


@pytest.mark.parametrize(
    "metric, method, nfe", [(metric, *cell) for metric, cells in STORY.items() for cell in cells]
)
def test_a_number_that_is_missing_is_named(metric, method, nfe):
    rows = measured()
    gone = (rows.method == method) & (rows.nfe == nfe) & (rows.metric == metric)
    with pytest.raises(ValueError, match=f"no row {method}, {metric}, nfe {nfe}"):
        ledger_of(rows[~gone])


def test_numbers_of_other_seeds_or_protocols_are_not_compared():
    rows = measured()
    with pytest.raises(
        ValueError, match=r"scflow at 1 has the training seeds \[0, 1, 2\], lmd at 1 has \[0, 1\]: FID cannot"
    ):
        ledger_of(rows[(rows.method != "lmd") | (rows.train_seed < 2)])
    with pytest.raises(ValueError, match=r"\[0, 1, 2\], scflow at 1 has \[0, 1\] in FID as JPEG: FID cannot"):
        ledger_of(rows[(rows.metric != JPEG) | (rows.train_seed < 2)])
    rows.loc[rows.method == "lsd", "protocol"] = "FID of 50000"
    with pytest.raises(ValueError, match="FID was measured under 2 protocols"):
        ledger_of(rows)
