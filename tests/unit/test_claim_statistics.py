"""Effects and sign tests: known answers, what has none, and how ledgers with and without them are read."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from fewstep.evaluation import claims, csv_files, statistics
from fewstep.pipeline import report, site_pages

SEEDS = [
    (0.3, 0.5),
    (1.0, 2.0, 4.0),
    (-0.2, 0.1, 0.3, 0.1, -0.05),
    (-3.0, -2.5),
    tuple(np.linspace(9, 11, 20)),
]


@pytest.mark.parametrize("values", SEEDS)
@pytest.mark.parametrize("threshold", [0.0, 0.4, 10.0])
def test_an_effect_and_its_bounds_are_where_the_noncentral_t_says(values, threshold):
    n, found = len(values), statistics.effect(values, threshold)
    t = np.sqrt(n) * (np.mean(values) - threshold) / np.std(values, ddof=1)
    probabilities = [stats.nct.cdf(t, n - 1, np.sqrt(n) * own) for own in found]
    assert probabilities == pytest.approx([0.5, 0.975, 0.025], abs=1e-7)
    assert found[1] < found[0] < found[2]


@pytest.mark.parametrize("values", SEEDS)
def test_the_bounds_hold_without_scipys_noncentral_t(values):
    """P(Z + nc <= t V) over V = sqrt(chi^2 / df), an integral of normal probabilities."""
    n = len(values)
    t = np.sqrt(n) * np.mean(values) / np.std(values, ddof=1)
    shifts = np.sqrt(n) * np.array(statistics.effect(values, 0.0))
    for shift, p in zip(shifts, (0.5, 0.975, 0.025)):

        def below(v, nc=shift):
            return stats.norm.cdf(t * v - nc) * stats.chi.pdf(v * np.sqrt(n - 1), n - 1) * np.sqrt(n - 1)

        edges = [0, 0.5, 1, 1.5, 2, 3, 6]
        found = sum(integrate.quad(below, *pair, epsabs=1e-9)[0] for pair in zip(edges, edges[1:]))
        assert found == pytest.approx(p, abs=1e-6)


def test_an_effect_has_no_unit_and_turns_round_with_the_claim():
    found = statistics.effect((1.0, 2.0, 4.0), 0.5)
    assert statistics.effect((110.0, 120.0, 140.0), 105.0) == pytest.approx(found)
    middle, low, high = statistics.effect((-1.0, -2.0, -4.0), -0.5)
    assert (-middle, -high, -low) == pytest.approx(found)
    assert statistics.effect((-1.0, 1.0), 0.0)[0] == pytest.approx(0, abs=1e-9)


def test_an_effect_is_that_of_hedges_where_there_are_many_seeds_and_a_median_where_there_are_two():
    values = np.linspace(0, 1, 60)
    plain = float((values.mean() - 0.2) / values.std(ddof=1))
    hedges = plain * (1 - 3 / (4 * 59 - 1))
    assert statistics.effect(values, 0.2)[0] == pytest.approx(hedges, rel=0.01)
    # the median of sqrt(chi^2 / df) at t far from 0: for two seeds that of |Z|
    assert statistics.effect((100.0, 100.1), 0.0)[0] == pytest.approx(
        100.05 / np.std([100.0, 100.1], ddof=1) * stats.norm.ppf(0.75), rel=1e-4
    )


def test_an_effect_is_median_unbiased():
    drawn = np.random.default_rng(0).normal(0.8, 1.0, (100, 3))
    above = np.mean([statistics.effect(tuple(row), 0.0)[0] > 0.8 for row in drawn])
    assert above == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(100))


@pytest.mark.parametrize("values", SEEDS)
@pytest.mark.parametrize("threshold", [0.0, 0.35, 2.0, 9.9])
def test_the_bounds_of_an_effect_leave_zero_out_exactly_where_the_verdict_is_decided(values, threshold):
    _, low, high = statistics.effect(values, threshold)
    assert statistics.verdict(low, high, 0.0) == statistics.verdict(*statistics.interval(values), threshold)


@pytest.mark.parametrize("values", [(0.3,), (0.2, 0.2, 0.2), (0.0, 0.0), (0.5 - 0.22, 0.51 - 0.23)])
def test_what_has_no_spread_has_no_effect(values):
    assert str(statistics.effect(values, 0.1)) == str((np.nan, -np.inf, np.inf))


def test_a_very_large_effect_is_a_number():
    middle, low, high = statistics.effect((1.0, 1.0 + 1e-9, 1.0 - 1e-9), 0.0)
    assert 1e8 < low < middle < high < 1e10


@pytest.mark.parametrize(
    "values, threshold, p",
    [
        ((1.0, 2.0), 0.0, 1 / 4), ((1.0, 2.0, 3.0), 0.0, 1 / 8), ((1.0,), 0.0, 1 / 2), ((-1.0,), 0.0, 1.0),
        # four of five above: (5 + 1) / 32; one of two: 3 / 4
        ((1.0, 1.0, 1.0, 1.0, -1.0), 0.0, 6 / 32), ((9.0, 11.0), 10.0, 3 / 4),
        # what equals the threshold is not above it
        ((0.0, 1.0), 0.0, 3 / 4), ((0.0, 0.0), 0.0, 1.0),
    ],
)  # fmt: skip
def test_a_sign_test_is_counted_by_hand(values, threshold, p):
    assert statistics.sign_test(values, threshold) == pytest.approx(p)


# The ledger ------------------------------------------------------------------------------------------------


def claim(name: str, values: tuple[float, ...], threshold: float = 0.0) -> claims.Claim:
    over = f"{len(values)} training seed{'s' if len(values) > 1 else ''}"
    return claims.Claim(name, "arXiv 1", name, "KL (nats)", values, "x", over, threshold)


@pytest.fixture
def ledger() -> pd.DataFrame:
    found = [claim("wide", (9.0, 12.0, 14.0), 10.0), claim("lone", (0.3,)), claim("equal", (0.2, 0.2))]
    return claims.ledger(found, "laptop")


def test_a_ledger_has_effects_from_each_claims_own_threshold(ledger):
    wide, lone, equal = (row for _, row in ledger.iterrows())
    found = tuple(wide[["effect", "effect_low", "effect_high", "sign_p"]])
    assert found == pytest.approx((*statistics.effect((-1.0, 2.0, 4.0), 0.0), 4 / 8))
    for row, p in ((lone, 0.5), (equal, 0.25)):
        assert np.isnan(row.effect) and (row.effect_low, row.effect_high) == (-np.inf, np.inf)
        assert row.sign_p == p
    assert list(ledger.verdict) == ["undecided", "undecided", "supported"]


def test_readers_see_them_with_the_least_p_of_so_many_seeds(ledger):
    (shown,) = claims.shown(ledger).values()
    middle, low, high = statistics.effect((-1.0, 2.0, 4.0), 0.0)
    assert shown.effect.to_list() == [f"{middle:.3g} ({low:.3g} to {high:.3g})", "", ""]
    assert shown["sign test"].to_list() == ["0.5 (least 0.125)", "0.5 (least 0.5)", "0.25 (least 0.25)"]
    (found,) = site_pages.claims(ledger, {}, {}, lambda *_: None).values()
    assert [own["effect"] for own in found] == shown.effect.to_list()
    assert [own["sign"] for own in found] == shown["sign test"].to_list()


def test_ledgers_of_earlier_versions_are_read_and_shown_without(ledger, tmp_path):
    path = tmp_path / "claims.csv"
    path.write_bytes(report.csv(ledger))
    assert np.isnan(claims.read_ledger(path, {}).effect[1])
    before = ledger.drop(columns=["effect", "effect_low", "effect_high", "sign_p"])
    path.write_bytes(report.csv(before))
    (shown,) = claims.shown(claims.read_ledger(path, {})).values()
    assert "effect" not in shown and "sign test" not in shown and len(shown) == 3
    (found,) = site_pages.claims(before, {}, {}, lambda *_: None).values()
    assert {own["effect"] + own["sign"] for own in found} == {""}
    # put together, as while a tier is half made: the earlier ones are empty there
    both = pd.concat([ledger, before.assign(claim=before.claim + "-before")])
    (shown,) = claims.shown(both).values()
    assert shown["sign test"].to_list()[2:] == ["0.25 (least 0.25)", "", "", ""]


@pytest.mark.parametrize("column, kind", claims.LATER.items())
def test_a_damaged_cell_of_a_later_column_is_named(ledger, tmp_path, column, kind):
    path = tmp_path / "claims.csv"
    value = "" if column == "over" else "much"
    path.write_bytes(report.csv(ledger.astype({column: object}).assign(**{column: value})))
    with pytest.raises(csv_files.DamagedFileError, match=f"line 2: `{column}` is '{value}' and no {kind}"):
        claims.read_ledger(path, {})
