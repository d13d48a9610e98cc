"""Tables and claims: provenance or refusal, protocols never mixed, intervals that are what they say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fewstep.evaluation import claims, measure, provenance, published, sample, statistics, tables
from fewstep.evaluation.measure import METRICS
from fewstep.evaluation.metric import Comparison
from fewstep.evaluation.provenance import ProvenanceError
from fewstep.settings import tiers

TRACE = {
    "notebook": "4-metrics",
    "revision": "abc",
    "parameters": "123",
    "hardware": "cpu",
    "software": "torch",
}
PAPERS = "KL(target || histogram), 64000 samples, 50x50 bins on [-1,1]^2, exact quadrature"


SELF = "selfdistill-checkerboard"


def built(smoke, frame: pd.DataFrame) -> pd.DataFrame:
    """The table of measured rows of self-distillation on the checkerboard."""
    experiment = SimpleNamespace(name=SELF, tier="laptop", settings=smoke.experiment(SELF))
    return tables.build(experiment, frame)[SELF]


def rows(
    method: str, nfe: int, values: np.ndarray, metric: str = "KL to target", protocol: str = PAPERS, **other
) -> list[dict]:
    """One row for each (training seed, sampling seed); values (training, sampling)."""
    return [
        {
            "method": method,
            "metric": metric,
            "nfe": nfe,
            "train_seed": k,
            "sample_seed": j,
            "value": v,
            "samples": 64000,
            "protocol": protocol,
        }
        | TRACE
        | other
        for k, line in enumerate(values)
        for j, v in enumerate(line)
    ]


def test_mean_and_deviations_are_over_the_seeds_they_name(smoke):
    values = np.array([[1.0, 1.2], [2.0, 2.2], [3.0, 3.2]])
    table = built(smoke, pd.DataFrame(rows("lsd", 1, values)))
    cell = table.iloc[0]
    assert cell.value == pytest.approx(values.mean())
    assert cell.sd == pytest.approx(np.std([1.1, 2.1, 3.1], ddof=1))
    assert cell.sd_sampling == pytest.approx(np.std([0, 0.2], ddof=1))
    assert cell.seeds == "3 training x 2 sampling" and cell.method == "LSD" and cell.tier == "laptop"
    assert (cell.published, cell.status, cell.source) == (0.086, "confirmed", "arXiv 2505.18825 Table 1")
    shown = tables.shown(table, "KL to target")
    assert shown.loc["LSD"].to_dict() == {"N = 1": "2.100 ± 1.000", "N = 1, published": "0.086 c (+2.014)"}


def test_another_protocol_is_not_set_beside_the_published_number(smoke):
    frame = pd.DataFrame(rows("lsd", 1, np.ones((2, 2)), protocol=PAPERS.replace("64000", "4000")))
    table = built(smoke, frame)
    assert pd.isna(table.published[0]) and table.status[0] == "other protocol"
    assert list(tables.shown(table, "KL to target").columns) == ["N = 1"]


def test_calls_stand_in_increasing_order_and_methods_as_the_settings_have_them(smoke):
    parts = [("psd-m", 16), ("psd-m", 2), ("lsd", 4), ("lsd", 16), ("esd", 2)]
    table = built(smoke, pd.DataFrame([row for part in parts for row in rows(*part, np.ones((2, 2)))]))
    shown = tables.shown(table, "KL to target")
    assert [c for c in shown.columns if "published" not in c] == ["N = 2", "N = 4", "N = 16"]
    labels = [method.label for method in smoke.experiment(SELF).methods.values()]
    assert list(shown.index) == [label for label in labels if label in {"PSD-M", "LSD", "ESD"}]
    assert shown.loc["ESD", "N = 4"] == "" and shown.columns.name == "KL to target"


def test_one_cell_of_two_protocols_is_refused(smoke):
    frame = pd.DataFrame(
        rows("lsd", 1, np.ones((2, 2))) + rows("lsd", 1, np.ones((2, 2)), protocol="another")
    )
    with pytest.raises(ValueError, match="lsd, KL to target, nfe 1 mixes evaluation protocols"):
        built(smoke, frame)


@pytest.mark.parametrize("column", provenance.COLUMNS)
@pytest.mark.parametrize("bad", ["", None])
def test_a_cell_without_provenance_is_refused(smoke, column, bad):
    frame = pd.DataFrame(rows("lsd", 1, np.ones((2, 2))) + rows("esd", 2, np.ones((2, 2)), **{column: bad}))
    with pytest.raises(ProvenanceError, match=f"has a cell without {column}: esd, KL to target, nfe 2"):
        built(smoke, frame)
    with pytest.raises(ProvenanceError, match=f"has no column '{column}'"):
        built(smoke, frame.drop(columns=column))


def test_published_numbers_have_a_status_and_are_found_only_where_they_belong():
    numbers = published.load()
    assert set(numbers.status) <= set(published.STATUSES) and len(numbers) > 100
    assert (
        published.lookup(numbers, "selfdistill-checkerboard", "PSD-M", "KL to target", 16, PAPERS)[0] == 0.069
    )
    assert published.lookup(numbers, "selfdistill-checkerboard", "PSD-M", "KL to target", 3, PAPERS) == (
        None,
        "not on file",
        "",
    )
    assert published.lookup(numbers, "fmm-checkerboard", "LMD", "KL to target", 1, PAPERS) == (
        None,
        "not on file",
        "",
    )


def test_the_interval_is_students():
    low, high = statistics.interval((1.0, 2.0, 4.0))
    expected = stats.ttest_1samp([1.0, 2.0, 4.0], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert statistics.interval((1.0,)) == (-np.inf, np.inf)


def test_verdicts_follow_the_interval():
    assert statistics.verdict(0.1, 0.3, 0) == "supported"
    assert statistics.verdict(-0.3, -0.1, 0) == "contradicted"
    assert statistics.verdict(-0.1, 0.1, 0) == "undecided"


def test_equal_quality_is_read_off_the_teachers_curve():
    curve = pd.DataFrame(
        [r for n, kl in ((1, 4.0), (4, 1.0), (16, 0.25)) for r in rows("si", n, np.full((2, 1), kl))]
    )
    calls = statistics.calls_to_match(curve, pd.Series({0: 1.0, 1: 0.5}))
    assert calls[0] == pytest.approx(4) and calls[1] == pytest.approx(8)
    # better than the teacher ever gets, and worse than its first step
    assert statistics.calls_to_match(curve, pd.Series({0: 0.1, 1: 9.0})) == pytest.approx((16, 1))


def test_the_ledger_says_what_was_claimed_and_turns_with_the_numbers():
    def measured(lmd: float) -> pd.DataFrame:
        noise = np.array([[0.0], [0.001], [-0.001]])
        parts = (
            rows("lmd", 1, lmd + noise)
            + rows("emd", 1, 0.3 + 0 * noise)
            + rows("pfmm", 1, 0.2 + noise)
            + rows("fmm", 4, 0.2 + 0 * noise)
        )
        return pd.DataFrame(
            parts + rows("si", 1, 4 + noise) + rows("si", 16, 0.15 + noise) + rows("si", 80, 0.09 + 0 * noise)
        )

    def verdicts(lmd: float) -> dict[str, str]:
        experiment = SimpleNamespace(name="fmm-checkerboard", data_name="checkerboard")
        ledger = claims.ledger(claims.evaluate(experiment, measured(lmd)), "laptop")
        assert tuple(ledger.columns) == claims.COLUMNS
        return dict(zip(ledger.claim, ledger.verdict))

    assert set(verdicts(0.1).values()) == {"supported"}
    worse = verdicts(0.5)
    assert (
        worse["lmd-beats-emd"]
        == worse["lmd-one-step-near-teacher"]
        == worse["ten-times-fewer-calls"]
        == "contradicted"
    )


def test_a_miscounted_column_is_refused(smoke, tmp_path):
    index = pd.DataFrame(
        [
            {
                "method": "lsd",
                "sampler": "jumps",
                "steps": 4,
                "nfe": 5,
                "train_seed": 0,
                "sample_seed": 0,
                "count": 1,
                "file": "x",
            }
        ]
    )
    with pytest.raises(ValueError, match="lsd took 5 network calls for 4 steps"):
        measure.evaluate(index, tmp_path, Comparison(smoke.experiment(SELF)), tmp_path, smoke.compute)


def test_instability_sees_spikes_and_not_scale():
    calm = np.ones(1000)
    spiky = calm.copy()
    spiky[::50] = 30
    assert statistics.instability(calm) == 1 and statistics.instability(7 * calm) == 1
    assert statistics.instability(spiky) > 10


def test_claims_name_experiments_and_rows_that_there_are(root):
    """At tier paper, where every experiment but the zoo's is, and each with a unit and a statistic."""
    paper, laptop = (tiers.load(root / "params.yaml", tier) for tier in ("paper", "laptop"))
    for group in claims._file():
        for name, claim in ((name, claim) for name in group["experiments"] for claim in group["claims"]):
            rows = set(sample.labels((laptop if name.startswith("zoo-") else paper).experiment(name)))
            entries = claim["statistic"].get("cells", [])
            cells = [c for entry in entries for c in (entry["least"] if isinstance(entry, dict) else [entry])]
            assert {cell[0] for cell in cells} <= rows and claim["unit"] and claim["words"], claim["id"]
            assert {cell[2] for cell in cells if len(cell) > 2} <= {
                n for m in METRICS.values() for n in m.names
            }
