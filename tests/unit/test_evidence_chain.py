"""A made table with known answers, from measured rows through tables and claims to the README."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims, csv_files, findings, measure, statistics, tables
from fewstep.evaluation.provenance import COLUMNS, ProvenanceError
from fewstep.pipeline import report
from fewstep.storage.workspace import Workspace

from .test_image_tables import TOUR_ALONE

FMM, SELF, KL = "fmm-checkerboard", "selfdistill-checkerboard", "KL to target"
PROTOCOL = "KL(target || histogram), 64000 samples, 50x50 bins on [-1,1]^2, exact quadrature"
TRACE = dict(zip(COLUMNS, ("4-measure", "0123456789ab", "abc", "a CPU, 2 cores", "torch")))
# over three trainings: mean 0, deviation 1; an interval of cells that differ by it reaches REACH to each side
WOBBLE = np.array([0.0, 1.0, -1.0])
REACH = 4.302653 / 3**0.5
# method and network calls -> KL, the paper's story
DISTILLED = {
    ("si", 1): 4.0, ("si", 16): 0.25, ("si", 80): 0.2, ("lmd", 1): 0.22, ("lmd", 2): 0.21, ("emd", 1): 0.5,
    ("fmm", 4): 0.3, ("pfmm", 1): 0.28,
}  # fmt: skip
# LSD is the best up to eight calls and then is not; the best of its rivals is another one at each
OWN = {
    1: {"lsd": 1.0, "esd": 1.2, "psd-m": 3.0, "psd-u": 2.0},
    2: {"lsd": 0.9, "esd": 3.0, "psd-m": 1.1, "psd-u": 2},
    4: {"lsd": 0.8, "esd": 3.0, "psd-m": 2.0, "psd-u": 1.0},
    8: {"lsd": 0.7, "esd": 0.9, "psd-m": 3, "psd-u": 2},
    16: {"lsd": 0.9, "esd": 3.0, "psd-m": 0.7, "psd-u": 2.0},
}  # fmt: skip


def rows(cells: dict[tuple[str, int], float], scale: float = 0.01, **other) -> pd.DataFrame:
    """Three trainings of two samplings a cell: the value, and what it varies by over each."""
    found = [
        {"method": method, "label": method, "metric": KL, "nfe": nfe, "train_seed": k, "sample_seed": j}
        | {"value": value + scale * WOBBLE[k] + 0.001 * (-1) ** j, "samples": 64000, "protocol": PROTOCOL}
        | {"empty": 0, **TRACE, **other}
        for (method, nfe), value in cells.items()
        for k in range(3)
        for j in range(2)
    ]
    return pd.DataFrame(found)


def exact(nfe: int, *values: float) -> pd.DataFrame:
    """The row `exact`: no training, one sampling a value."""
    cells = [
        rows({("exact", nfe): value}, 0).iloc[:1].assign(sample_seed=k) for k, value in enumerate(values)
    ]
    return pd.concat(cells).assign(value=list(values), train_seed=-1)


def own_cells(**changes: float) -> dict[tuple[str, int], float]:
    return {(method, n): value for n, line in OWN.items() for method, value in line.items()} | changes


def experiment(tier, name: str, folder=None) -> SimpleNamespace:
    workspace = SimpleNamespace(read=lambda file: folder / file)
    settings = tier.experiment(name)
    return SimpleNamespace(
        name=name, tier="laptop", settings=settings, data_name="checkerboard", workspace=workspace
    )


def logs(peaks: dict[str, float]) -> dict[str, list[dict[str, np.ndarray]]]:
    """Gradient norms of 1, every fiftieth of them the peak: an instability of the peak."""

    def one(peak: float) -> dict[str, np.ndarray]:
        norms = np.ones(1000)
        norms[::50] = peak
        return {"gradient_norm": norms}

    return {label: [one(peak * factor) for factor in (1, 1.1, 1.2)] for label, peak in peaks.items()}


def ledger(smoke, cells=None, scale: float = 0.01, peaks=None) -> pd.DataFrame:
    """The claims of both experiments on the checkerboard."""
    fmm = claims.evaluate(experiment(smoke, FMM), rows(cells or DISTILLED, scale))
    made = logs(peaks or {"ESD, shared settings": 8.0, "LSD": 2.0})
    own = claims.evaluate(experiment(smoke, SELF), rows(own_cells(), scale), made)
    return claims.ledger(fmm + own, "laptop").set_index("claim")


def test_every_claim_has_its_value_its_interval_and_its_verdict(smoke):
    found = ledger(smoke)
    # log-log between 1 call (4.0) and 16 calls (0.25): 0.22 is reached beyond 16, between 16 and 80
    expected = {
        "lmd-beats-emd": 0.28, "lmd-one-step-near-teacher": 0.03, "pfmm-one-matches-fmm-four": 0.03,
        "lsd-best-at-1": 0.2, "lsd-best-at-2": 0.2, "lsd-best-at-4": 0.2, "lsd-best-at-8": 0.2,
        "lsd-not-best-at-16": 0.2, "esd-gradient-less-stable": np.log(4),
    }  # fmt: skip
    assert set(found.index) == {*expected, "ten-times-fewer-calls"}
    assert found.value[list(expected)].to_dict() == pytest.approx(expected)
    assert set(found.verdict) == {"supported"} and set(found.over) == {"3 training seeds"}
    # every training moves both sides alike: differences are the same in each
    for name in expected:
        assert (found.low[name], found.high[name]) == pytest.approx((expected[name],) * 2), name
    quality = 0.22 + 0.01 * WOBBLE
    ends = np.log([0.25 + 0.01 * WOBBLE, 0.2 + 0.01 * WOBBLE])
    calls = np.exp(np.log(16) + (ends[0] - np.log(quality)) / (ends[0] - ends[1]) * np.log(5))
    assert found.value["ten-times-fewer-calls"] == pytest.approx(calls.mean())
    assert found.high["ten-times-fewer-calls"] == pytest.approx(calls.mean() + calls.std(ddof=1) * REACH)
    assert list(found.table) == [FMM] * 4 + [SELF] * 6 and set(found.tier) == {"laptop"}
    assert list(found.paper) == ["arXiv 2406.07507"] * 4 + ["arXiv 2505.18825"] * 6
    assert found.statistic.to_list() == [
        "KL(EMD, N=1) - KL(LMD, N=1) (nats); claimed > 0",
        "0.05 - (KL(LMD, N=1) - KL(SI, N=80)) (nats); claimed > 0",
        "Euler calls of the teacher that reach the KL of one LMD step (calls); claimed > 10",
        "0.05 - |KL(PFMM, N=1) - KL(FMM, N=4)| (nats); claimed > 0",
        *(f"min KL(ESD, PSD-M, PSD-U) - KL(LSD), N={n} (nats); claimed > 0" for n in (1, 2, 4, 8)),
        "KL(LSD) - min KL(ESD, PSD-M, PSD-U), N=16 (nats); claimed > 0",
        "log of the ratio of (99th percentile / median) of the gradient norm, ESD over LSD (no unit); "
        "claimed > 0",
    ]


@pytest.mark.parametrize(
    "cell, value, name",
    [
        (("emd", 1), 0.1, "lmd-beats-emd"), (("lmd", 1), 0.6, "lmd-beats-emd"),
        (("si", 80), 0.1, "lmd-one-step-near-teacher"), (("si", 1), 0.21, "ten-times-fewer-calls"),
        # on either side: PFMM may be neither better nor worse by more than the bar
        (("pfmm", 1), 0.4, "pfmm-one-matches-fmm-four"), (("pfmm", 1), 0.2, "pfmm-one-matches-fmm-four"),
    ],
)  # fmt: skip
def test_each_claim_of_distillation_falls_by_its_own_number(smoke, cell, value, name):
    assert ledger(smoke, DISTILLED | {cell: value}).verdict[name] == "contradicted"


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("rival", ["esd", "psd-m", "psd-u"])
def test_lsd_is_held_against_the_best_of_its_rivals_and_at_its_own_number_of_steps(smoke, n, rival):
    lsd = OWN[n]["lsd"]
    cells = own_cells() | {(rival, n): lsd - 0.1}
    found = claims.evaluate(experiment(smoke, SELF), rows(cells), logs({"ESD, shared settings": 8, "LSD": 2}))
    verdicts = claims.ledger(found, "laptop").set_index("claim").verdict
    # the best of all rivals is below LSD: at sixteen steps that is the claim
    fallen = set() if n == 16 else {f"lsd-best-at-{n}"}
    assert set(verdicts[verdicts == "contradicted"].index) == fallen


def test_a_gradient_as_stable_as_another_decides_by_the_interval(smoke):
    name = "esd-gradient-less-stable"
    assert ledger(smoke, peaks={"ESD, shared settings": 2.0, "LSD": 8.0}).verdict[name] == "contradicted"
    even = {"ESD, shared settings": [1.0, 4.0, 9.0], "LSD": [3.0, 3.0, 3.0]}
    made = {label: [logs({label: peak})[label][0] for peak in own] for label, own in even.items()}
    found = claims.ledger(claims.evaluate(experiment(smoke, SELF), rows(own_cells()), made), "laptop")
    row = found.set_index("claim").loc[name]
    values = np.log([1 / 3, 4 / 3, 3])
    assert row.value == pytest.approx(values.mean()) and row.verdict == "undecided"
    assert row.high == pytest.approx(values.mean() + values.std(ddof=1) * REACH)


def test_the_interval_decides_and_not_the_mean(smoke):
    """EMD is worse by 0.28 on the mean, and by chance alone where one training moves it by as much."""
    wide = rows(DISTILLED)
    emd = wide.method == "emd"
    wide.loc[emd, "value"] += 0.2 * WOBBLE[wide.train_seed[emd]]
    found = claims.ledger(claims.evaluate(experiment(smoke, FMM), wide), "laptop").set_index("claim")
    assert found.value["lmd-beats-emd"] == pytest.approx(0.28)
    assert found.low["lmd-beats-emd"] == pytest.approx(0.28 - 0.2 * REACH)
    assert found.verdict["lmd-beats-emd"] == "undecided"


def test_bounds_that_touch_the_threshold_decide_nothing():
    assert [statistics.verdict(*bounds, 1.0) for bounds in ((1.0, 2.0), (0.0, 1.0), (1.1, 2), (0, 0.9))] == [
        "undecided", "undecided", "supported", "contradicted",
    ]  # fmt: skip
    assert statistics.verdict(-np.inf, np.inf, 0.0) == "undecided"


def test_claims_that_stand_on_training_seeds_alone_say_so_with_two(smoke):
    two = rows(DISTILLED)
    found = claims.evaluate(experiment(smoke, FMM), two[two.train_seed < 2])
    assert {claim.over for claim in found} == {"2 training seeds"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_in_no_mean(smoke, value):
    bad = rows(DISTILLED)
    bad.loc[3, "value"] = value
    for reader in (claims.evaluate, tables.build):
        with pytest.raises(
            csv_files.DamagedFileError, match="a number that is not finite, si, KL to target, nfe 1"
        ):
            reader(experiment(smoke, FMM), bad)


def test_a_row_that_is_there_twice_counts_no_seed_more(smoke):
    doubled = pd.concat([rows(DISTILLED), rows(DISTILLED).iloc[:2]])
    said = "more than one row of method si, metric KL to target, nfe 1, train_seed 0, sample_seed 0"
    for reader in (claims.evaluate, tables.build):
        with pytest.raises(csv_files.DamagedFileError, match=said):
            reader(experiment(smoke, FMM), doubled)
    with pytest.raises(ValueError, match="si, KL to target, nfe 1: trainings differ in their samplings"):
        tables.build(experiment(smoke, FMM), rows(DISTILLED).drop(index=0))


def test_deviations_are_those_of_the_seeds_they_name(smoke):
    measured = pd.concat([rows({("lmd", 1): 0.5, ("si", 80): 0.4}), exact(1, 0.1, 0.3), exact(80, 0.4, 0.4)])
    table = tables.build(experiment(smoke, FMM), measured)[FMM].set_index(["method", "nfe"])
    lmd, floor = table.loc[("LMD", 1)], table.loc[("exact", 1)]
    assert (lmd.value, lmd.sd, lmd.sd_sampling) == pytest.approx((0.5, 0.01, 0.001 * 2**0.5))
    assert lmd.seeds == "3 training x 2 sampling" and lmd.samples == 64000
    # nothing is trained: its deviation is that of its samplings
    assert (floor.value, floor.sd, floor.sd_sampling) == pytest.approx((0.2, 0.2 / 2**0.5, 0.2 / 2**0.5))
    assert floor.seeds == "2 sampling" and list(table.index.get_level_values(0)) == [
        "SI",
        "LMD",
        "exact",
        "exact",
    ]
    assert tables.floor(table.reset_index(), KL) == pytest.approx(0.2)
    one = tables.build(experiment(smoke, FMM), rows({("lmd", 1): 0.5}).iloc[:2])[FMM].iloc[0]
    assert np.isnan(one.sd) and one.seeds == "1 training x 2 sampling"


def test_rows_of_two_revisions_make_no_table(smoke):
    mixed = rows(DISTILLED)
    mixed.loc[0, "revision"] = "another"
    with pytest.raises(ProvenanceError, match="mixes rows .* of revision .0123456789ab, another"):
        tables.build(experiment(smoke, FMM), mixed)


@pytest.fixture
def published(smoke, tmp_path, monkeypatch):
    """The results of the made rows, as the pipeline writes them at tier laptop: their folder."""
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    monkeypatch.setattr(report, "README_TABLES", {FMM: KL, SELF: KL})
    (tmp_path / "dvc.yaml").write_text(TOUR_ALONE, encoding="utf-8")
    found, parts = {}, {FMM: rows(DISTILLED), SELF: pd.concat([rows(own_cells()), exact(1, 0.05, 0.06)])}
    for name, measured in parts.items():
        path = tmp_path / "metrics" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        measured.to_csv(path, index=False)
        own = experiment(smoke, name, tmp_path)
        found |= tables.build(own, measure.load(own))
    made = ledger(smoke).reset_index()[list(claims.COLUMNS)]
    made.loc[made.claim == "lsd-best-at-8", "verdict"] = "undecided"
    results = report.Results(found, made, {}, {"abc": {}})
    report.write(Workspace(tmp_path, "laptop"), report.FIRST, "5-figures", results)
    report.publish(Workspace(tmp_path, "laptop"))
    return tmp_path


def ledger_of(folder):
    return pd.read_csv(folder / "results" / "laptop" / "claims.csv")


def test_the_readme_shows_tier_overnight_where_it_was_run(published):
    begin, end = report.README_MARKS
    text = f"{begin}old\n{end}"
    laptop = report.refresh_readme(published, text)
    shutil.copytree(published / "results" / "laptop", published / "results" / "overnight")
    night = report.refresh_readme(published, text)
    assert "results/laptop/report.md#claims" in laptop and "overnight" not in laptop
    assert night == laptop.replace("results/laptop/", "results/overnight/")


def test_the_readme_says_what_was_measured_claimed_and_published(published):
    begin, end = report.README_MARKS
    lines = report.refresh_readme(published, f"above\n\n{begin}old\n{end}below\n").splitlines()
    assert lines[:2] == ["above", ""] and lines[-1] == "below" and "old" not in lines
    assert (
        "**fmm-checkerboard**, KL to target (3 training x 2 sampling seeds, 64000 samples; a CPU, 2 cores)"
        in lines
    )
    head = lines.index("| method | N = 1 | N = 2 | N = 4 | N = 16 | N = 80 |")
    assert lines[head + 2 : head + 7] == [
        "| SI | 4.000 ± 0.010 |  |  | 0.250 ± 0.010 | 0.200 ± 0.010 |",
        "| LMD | 0.220 ± 0.010 | 0.210 ± 0.010 |  |  |  |",
        "| EMD | 0.500 ± 0.010 |  |  |  |  |",
        "| FMM |  |  | 0.300 ± 0.010 |  |  |",
        "| PFMM | 0.280 ± 0.010 |  |  |  |  |",
    ]
    own = next(line for line in lines if line.startswith("| LSD |"))
    assert own.startswith(
        "| LSD | 1.000 ± 0.010 | 0.086 c (+0.914) | 0.900 ± 0.010 | 0.077 c (+0.823) "
        "| 0.800 ± 0.010 | 0.071 c (+0.729)"
    )
    assert next(line for line in lines if line.startswith("| exact |")).startswith(
        "| exact | 0.055 ± 0.007 |  |"
    )
    verdicts = ledger_of(published).verdict.value_counts()
    (said,) = (line for line in lines if line.startswith("**10 claims of the papers**: "))
    assert all(f"{count} *{verdict}*" in said for verdict, count in verdicts.items()) and len(verdicts) > 1


def test_the_report_and_the_metrics_say_the_same(published):
    results = published / "results" / "laptop"
    headline = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    assert headline[FMM]["LMD"] == {f"{KL} N=1": 0.22, f"{KL} N=2": 0.21}
    assert headline[SELF]["exact"] == {f"{KL} N=1": 0.055}
    page = (results / "report.md").read_text(encoding="utf-8")
    assert (
        "From [4-measure](notebooks/4-measure.ipynb) at revision 0123456789ab, [settings](settings/abc.json)"
        in page
    )
    assert f"**{KL}** ({PROTOCOL}; 3 training x 2 sampling seeds)" in page
    assert "| SI | 4.000 ± 0.010 |" in page and "| lsd-not-best-at-16 |" in page
    lines = page.splitlines()
    claim = next(line for line in lines if line.startswith("| lmd-beats-emd |"))
    assert claim == (
        "| lmd-beats-emd | LMD beats EMD at one step | KL(EMD, N=1) - KL(LMD, N=1) (nats) | > 0 | 0.280 "
        "| 0.280 to 0.280 |  | 0.125 (least 0.125) | 3 training seeds | supported |"
    )
    near = next(line for line in lines if line.startswith("| pfmm-one-matches-fmm-four |"))
    assert "0.05 - \\|KL(PFMM, N=1) - KL(FMM, N=4)\\| (nats)" in near


def test_what_was_published_is_read_back_and_what_is_missing_is_named(published):
    results, measured = published / "results" / "laptop", {}
    for path in (results / "tables").iterdir():
        table = tables.read_table(path)
        measured[path.stem] = set(table.metric)
    assert len(claims.read_ledger(results / "claims.csv", measured)) == 10
    lines = (results / "claims.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (results / "claims.csv").write_text(
        "".join(line for line in lines if not line.startswith("lsd-best-at-8")), encoding="utf-8"
    )
    with pytest.raises(csv_files.DamagedFileError, match="lacks the claim 'lsd-best-at-8'"):
        claims.read_ledger(results / "claims.csv", measured)


def test_the_sentences_below_the_tables_say_the_same(smoke):
    table = tables.build(experiment(smoke, SELF), pd.concat([rows(own_cells()), exact(1, 0.05, 0.06)]))[SELF]
    said = f"Lowest {KL} in one network call: LSD, 1; in 16 network calls it has 0.9."
    assert findings.best(table, KL) == said
    assert findings.beside_published(
        table
    ) == "Twenty numbers beside published ones; better than published: 0.".replace("Twenty", "20")
    assert findings.verdicts(ledger(smoke)) == (
        "Ten claims over training seeds: 10 supported, 0 contradicted, 0 undecided."
    )
