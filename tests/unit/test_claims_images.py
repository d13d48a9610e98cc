"""The claims of the image tables: verdicts known by hand, over training seeds or over sampling seeds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims, statistics

LADDER = (2, 4, 8, 16, 32, 64)
# over seeds: mean 0 and standard deviation 1, so that a cell's interval is mean +- 2.484 * scale
WOBBLE = np.array([0.0, 1.0, -1.0])
SEEDS = {"training seeds": "train_seed", "sampling seeds": "sample_seed"}
OVER = {"training seeds": "3 training seeds", "sampling seeds": "3 sampling seeds of one training"}


def cell(method: str, nfe: int, values, metric: str = "FID", over: str = "training seeds") -> list[dict]:
    """One row a value, along the seeds that `over` names; the other kind of seed is 0."""
    row = {
        "method": method,
        "label": method.upper(),
        "metric": metric,
        "nfe": nfe,
        "train_seed": 0,
        "sample_seed": 0,
        "protocol": f"{metric} of 200",
    }
    return [row | {SEEDS[over]: k, "value": float(v)} for k, v in enumerate(values)]


def distilled(
    over: str = "training seeds", lmd=7.0, emd=9.0, lmd_teacher=2.0, emd_teacher=3.0
) -> pd.DataFrame:
    """The teacher scores 256 / N (4 at 64 calls) by Euler; the students as told, `lmd` and `emd` numbers or
    one for each seed.
    """
    rows = [row for n in LADDER for row in cell("si", n, np.full(3, 256 / n), over=over)]
    # the teacher's other solvers, which no claim is about
    rows += cell("si-heun", 32, np.full(3, 1.0), over=over) + cell(
        "si-adaptive", 128, np.full(3, 0.5), over=over
    )
    for method, fid, t_fid in (("lmd", lmd, lmd_teacher), ("emd", emd, emd_teacher)):
        rows += cell(method, 2, fid + 0 * WOBBLE, over=over) + cell(
            method, 2, t_fid + 0 * WOBBLE, "T-FID", over=over
        )
    return pd.DataFrame(rows)


def own(lsd: dict[int, float], over: str = "training seeds", scale: float = 0.1) -> pd.DataFrame:
    """PSD-M scores 5 and PSD-U 6 at even powers of two, the other way round at odd ones, ESD 9, LSD `lsd`."""
    rows = []
    for k, n in enumerate((1, 2, 4, 8, 16)):
        rows += cell("lsd", n, lsd[n] + scale * WOBBLE, over=over) + cell(
            "esd", n, np.full(3, 9.0), over=over
        )
        rows += cell("psd-m", n, np.full(3, 5.0 + k % 2), over=over) + cell(
            "psd-u", n, np.full(3, 6.0 - k % 2), over=over
        )
        rows += cell("meanflow", n, np.full(3, 0.1), over=over)  # in the table, and no rival of the claim
    return pd.DataFrame(rows)


def log(peak: float, length: int = 1000) -> dict[str, np.ndarray]:
    """Gradient norms of 1, every fiftieth of them `peak`: an instability of `peak`."""
    norms = np.ones(length)
    norms[::50] = peak
    return {"gradient_norm": norms}


def logs(seeds: int = 3, **peaks: float) -> dict[str, list[dict[str, np.ndarray]]]:
    kept = {"LMD": 1.0, "EMD": 8.0, "LSD": 1.0, "ESD": 8.0, "PSD-M": 1.0} | {
        k.replace("_", "-"): v for k, v in peaks.items()
    }
    return {label: [log(peak * (1 + 0.01 * seed)) for seed in range(seeds)] for label, peak in kept.items()}


def ledger_of(rows: pd.DataFrame, own_logs=None, table: str = "fmm-cifar10") -> pd.DataFrame:
    experiment = SimpleNamespace(name=table, data_name="digits")
    found = claims.evaluate(experiment, rows, logs() if own_logs is None else own_logs)
    return claims.ledger(found, "laptop").set_index("claim")


@pytest.mark.parametrize("over", SEEDS)
def test_distillation_as_the_paper_has_it(over):
    found = ledger_of(distilled(over, lmd=5.0))
    assert list(found.index) == [
        "cifar10-lmd-beats-emd-at-2", "cifar10-lmd-nearer-teacher-at-2", "cifar10-lmd-two-steps-near-teacher",
        "cifar10-ten-times-fewer-calls", "cifar10-emd-gradient-less-stable-than-lmd",
    ]  # fmt: skip
    assert set(found.verdict) == {"supported"} and set(found.table) == {"fmm-cifar10"}
    # the teacher scores 5 at 256 / 5 calls; its 64 score 4
    expected = [9 - 5, 3 - 2, np.log(1.5) - np.log(5 / 4), 256 / 5 / 2, np.log(8)]
    assert found.value.to_list() == pytest.approx(expected)
    assert found.statement.str.contains("(digits)", regex=False).all()
    assert list(found.paper) == ["arXiv 2406.07507"] * 4 + ["arXiv 2505.18825"]
    assert found.statistic["cifar10-ten-times-fewer-calls"].endswith("; claimed > 10")
    assert "FID(SI, N=64)" in found.statistic["cifar10-lmd-two-steps-near-teacher"]


def test_distillation_turns_with_the_numbers():
    # FID 20: worse than EMD, five times the teacher's, and reached by Euler in 12.8 calls, 6.4 for each of
    # LMD's two
    found = ledger_of(distilled(lmd=20.0, emd=9.0, lmd_teacher=3.5), logs(EMD=1.0, LMD=8.0))
    assert set(found.verdict) == {"contradicted"}
    assert found.value["cifar10-ten-times-fewer-calls"] == pytest.approx(6.4)


def test_each_distillation_claim_reads_its_own_numbers():
    def verdicts(**changes) -> dict[str, str]:
        found = ledger_of(distilled(**changes))
        return {name.removeprefix("cifar10-"): v for name, v in found.verdict.items()}

    # 5.9 and 6.1 lie either side of 1.5 * 4; 12.7 and 12.9 either side of 256 / 20
    assert verdicts(lmd=5.9)["lmd-two-steps-near-teacher"] == "supported"
    assert verdicts(lmd=6.1)["lmd-two-steps-near-teacher"] == "contradicted"
    assert verdicts(lmd=12.7)["ten-times-fewer-calls"] == "supported"
    assert verdicts(lmd=12.9)["ten-times-fewer-calls"] == "contradicted"
    t_fid = verdicts(emd_teacher=1.0)
    assert (t_fid["lmd-beats-emd-at-2"], t_fid["lmd-nearer-teacher-at-2"]) == ("supported", "contradicted")
    fid = verdicts(emd=6.5)
    assert (fid["lmd-beats-emd-at-2"], fid["lmd-nearer-teacher-at-2"]) == ("contradicted", "supported")


def test_an_interval_that_holds_the_threshold_decides_nothing():
    name = "cifar10-lmd-beats-emd-at-2"
    wide, narrow = (ledger_of(distilled(lmd=7 + scale * WOBBLE, emd=8.0)) for scale in (0.5, 0.3))
    assert (wide.verdict[name], narrow.verdict[name]) == ("undecided", "supported")
    # Student's 97.5 % quantile with two degrees of freedom, over the root of three
    assert (wide.low[name], wide.high[name]) == pytest.approx(
        (1 - 0.5 * 4.302653 / 3**0.5, 1 + 0.5 * 4.302653 / 3**0.5)
    )


def test_seeds_are_compared_pairwise():
    # each seed moves both methods by far more than they differ
    found = ledger_of(distilled(lmd=7 + 3 * WOBBLE, emd=8 + 3 * WOBBLE))
    assert (found.low.iloc[0], found.high.iloc[0]) == pytest.approx((1, 1))


def test_the_interval_covers_training_seeds_where_there_are_three_and_else_sampling_seeds():
    several = ledger_of(distilled(lmd=7 + 0.1 * WOBBLE))
    assert set(several.over) == {"3 training seeds"}
    single = ledger_of(distilled("sampling seeds", lmd=7 + 0.1 * WOBBLE), logs(seeds=1))
    measured = single.drop("cifar10-emd-gradient-less-stable-than-lmd")
    assert set(measured.over) == {"3 sampling seeds of one training"}
    assert np.array_equal(measured.value, several.value.iloc[:4]) and np.array_equal(
        measured.low, several.low.iloc[:4]
    )


def test_one_training_says_nothing_of_another_trainings_gradients():
    found = ledger_of(distilled("sampling seeds"), logs(seeds=1)).loc[
        "cifar10-emd-gradient-less-stable-than-lmd"
    ]
    assert found.value == pytest.approx(np.log(8)) and (found.low, found.high) == (-np.inf, np.inf)
    assert found.verdict == "undecided" and found.over == "1 training seed"


def test_gradients_are_compared_over_as_many_steps_as_both_have():
    calm_in_the_end = {
        "EMD": [log(8.0, 400)] * 2,
        "LMD": [{"gradient_norm": np.r_[log(16.0, 400)["gradient_norm"], np.ones(60000)]}] * 2,
    }
    found = ledger_of(distilled(), calm_in_the_end)
    assert found.value.iloc[-1] == pytest.approx(np.log(8 / 16)) and found.verdict.iloc[-1] == "contradicted"


@pytest.mark.parametrize("over", SEEDS)
def test_self_distillation_verdicts(over):
    # the best rival scores 5 at every N; 0.1 of wobble reaches 0.248
    found = ledger_of(own({1: 4.0, 2: 4.7, 4: 4.8, 8: 5.5, 16: 5.2}, over), table="selfdistill-cifar10")
    assert list(found.index) == [f"cifar10-lsd-best-at-{n}" for n in (1, 2, 4, 8, 16)] + [
        "cifar10-esd-gradient-less-stable-than-lsd", "cifar10-esd-gradient-less-stable-than-psd-m",
    ]  # fmt: skip
    assert list(found.verdict) == [
        "supported",
        "supported",
        "undecided",
        "contradicted",
        "undecided",
        "supported",
        "supported",
    ]
    assert found.value.to_list()[:5] == pytest.approx([1.0, 0.3, 0.2, -0.5, -0.2])
    assert set(found.over.iloc[:5]) == {OVER[over]}
    assert (
        set(found.paper) == {"arXiv 2505.18825"}
        and found.statement.str.contains("(digits)", regex=False).all()
    )


def test_esd_is_set_against_each_of_its_two_rivals_gradients():
    found = ledger_of(own(dict.fromkeys((1, 2, 4, 8, 16), 4.0)), logs(PSD_M=20.0), "selfdistill-celeba64")
    assert found.verdict["celeba64-esd-gradient-less-stable-than-lsd"] == "supported"
    assert found.verdict["celeba64-esd-gradient-less-stable-than-psd-m"] == "contradicted"


def test_names_are_unique_across_the_tables():
    lsd = own(dict.fromkeys((1, 2, 4, 8, 16), 4.0))
    names = [n for t in ("fmm-cifar10", "fmm-imagenet32") for n in ledger_of(distilled(), table=t).index]
    names += [
        n
        for t in ("selfdistill-cifar10", "selfdistill-celeba64", "selfdistill-afhq64")
        for n in ledger_of(lsd, table=t).index
    ]
    assert len(names) == 2 * 5 + 3 * 7 == len(set(names))


@pytest.mark.parametrize(
    "method, metric", [("si", "FID"), ("lmd", "FID"), ("emd", "FID"), ("lmd", "T-FID"), ("emd", "T-FID")]
)
def test_a_distilled_method_that_is_missing_is_named(method, metric):
    rows = distilled()
    with pytest.raises(ValueError, match=f"no row {method}, {metric}"):
        ledger_of(rows[(rows.method != method) | (rows.metric != metric)])


def test_a_self_distilled_method_that_is_missing_is_named():
    rows = own(dict.fromkeys((1, 2, 4, 8, 16), 4.0))
    with pytest.raises(ValueError, match="no row psd-u, FID, nfe 8"):
        ledger_of(rows[(rows.method != "psd-u") | (rows.nfe != 8)], table="selfdistill-cifar10")
    with pytest.raises(ValueError, match="no training log of PSD-M; there are LSD, ESD"):
        ledger_of(rows, {"LSD": [log(1.0)], "ESD": [log(8.0)]}, "selfdistill-cifar10")


def test_methods_with_different_seeds_are_not_compared():
    rows = distilled()
    for few in (1, 2):
        with pytest.raises(
            ValueError,
            match=r"lmd at 2 has the training seeds \[0, 1, 2\], emd at 2 has \[0(, 1)?\]: FID cannot",
        ):
            ledger_of(rows[(rows.method != "emd") | (rows.train_seed < few)])
    with pytest.raises(ValueError):
        ledger_of(rows, logs() | {"EMD": [log(8.0)]})


def test_each_kind_of_seed_is_averaged_over_the_other():
    values = np.array([[1.0, 2.0], [3.0, 8.0], [5.0, 8.0]])
    rows = pd.DataFrame(
        [r | {"train_seed": k} for k in range(3) for r in cell("lmd", 2, values[k], over="sampling seeds")]
    )
    (found,), _ = claims.by_seeds(rows, [("lmd", 2, "FID")], claims.SAMPLING)
    assert found.to_dict() == {0: 3.0, 1: 6.0}
    (found,), over = claims.by_seeds(rows, [("lmd", 2, "FID")])
    assert (found.to_list(), found.index.name, over) == ([1.5, 5.5, 6.5], "train_seed", claims.TRAINING)
    # two trainings say next to nothing of a third
    (found,), over = claims.by_seeds(rows[rows.train_seed < 2], [("lmd", 2, "FID")])
    assert (found.to_list(), found.index.name, over) == ([2.0, 5.0], "sample_seed", claims.SAMPLING)


def test_numbers_of_two_protocols_are_not_compared():
    rows = distilled()
    rows.loc[rows.method == "emd", "protocol"] = "FID of 50000"
    with pytest.raises(
        ValueError,
        match="FID was measured under 2 protocols and cannot be compared: FID of 200 | FID of 50000",
    ):
        ledger_of(rows)


@pytest.mark.parametrize("over", SEEDS)
def test_calls_to_match_are_exact_on_a_power_law(over):
    curve = pd.DataFrame([r for n in LADDER for r in cell("si", n, [300 * n**-1.3, 40 * n**-0.5], over=over)])
    target = pd.Series({0: 300 * 11.0**-1.3, 1: 40 * 50.0**-0.5})
    assert statistics.calls_to_match(curve, target, SEEDS[over]) == pytest.approx((11, 50))
    # never reached, and reached with the fewest
    assert statistics.calls_to_match(curve, pd.Series({0: 0.01, 1: 99.0}), SEEDS[over]) == pytest.approx(
        (64, 2)
    )
    # what rises again has been reached before: 256 / N up to 16 calls, then worse
    rising = pd.DataFrame(
        [r for n in LADDER for r in cell("si", n, [256 / min(n, 16) + (n > 16)], over=over)]
    )
    assert statistics.calls_to_match(rising, pd.Series({0: 16.5}), SEEDS[over]) == pytest.approx(
        (256 / 16.5,)
    )
    with pytest.raises(ValueError, match=f"the curve has no row with {SEEDS[over]} 7"):
        statistics.calls_to_match(curve, pd.Series({7: 1.0}), SEEDS[over])
