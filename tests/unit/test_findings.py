"""Findings: sentences that made tables decide, ties and missing cells among them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims, findings

FID, PSNR = "FID", "PSNR to N = 1"


def table(*cells: tuple, metric: str = FID, published: float | None = None) -> pd.DataFrame:
    """Cells (method, network calls, value) of one metric."""
    frame = pd.DataFrame(cells, columns=["method", "nfe", "value"])
    return frame.assign(metric=metric, published=published)


def test_the_best_in_the_fewest_calls_and_what_it_has_in_the_most():
    found = table(
        ("SI", 8, 9.0), ("SCFlow", 1, 300.72), ("LMD", 1, 398.0), ("SCFlow", 8, 207.7), ("SCFlow", 2, 1.0)
    )
    expected = "Lowest FID in one network call: SCFlow, 300.7; in eight network calls it has 207.7."
    assert findings.best(found, FID) == expected
    agree = table(("A", 4, 20.0), ("B", 4, 25.0), metric=PSNR)
    assert findings.best(agree, PSNR) == f"Highest {PSNR} in four network calls: B, 25."


def test_ties_are_all_named_as_far_as_they_are_shown():
    found = table(("A", 1, 5.00001), ("B", 1, 5.0), ("C", 1, 6.0), ("A", 2, 3.0))
    assert findings.best(found, FID) == "Lowest FID in one network call: A and B, 5."
    assert findings.overall(found, FID) == "The lowest FID is 3, that of A in two network calls."
    three = table(("A", 1, 5.0), ("B", 1, 5.0), ("C", 2, 5.0))
    assert findings.overall(three, FID) == "The lowest FID is 5, that of A, B and C."


@pytest.mark.parametrize("say", [findings.best, findings.overall, findings.cheapest])
def test_what_was_not_measured_is_said(say):
    assert say(table(("A", 1, 5.0)), "KID") == "KID was not measured."
    assert say(table(("A", 1, np.nan), ("exact", 1, 0.1)), FID) == "FID was not measured."


def test_missing_cells_do_not_count():
    found = table(("A", 1, np.nan), ("B", 1, 7.0), ("A", 2, 1.0))
    assert findings.best(found, FID) == "Lowest FID in one network call: B, 7."


def test_the_exact_sampler_is_the_floor_and_no_rival():
    found = table(("exact", 1, 0.065), ("LMD", 1, 0.121), ("SI", 80, 0.088))
    expected = "The exact sampler scores 0.065 in FID, and the best of the others, SI, 0.088."
    assert findings.above_floor(found, FID) == expected
    assert findings.best(found, FID).startswith("Lowest FID in one network call: LMD")
    assert findings.above_floor(table(("LMD", 1, 0.1)), FID) == ""


def test_numbers_beside_published_ones_are_counted_by_which_way_is_better():
    found = pd.concat(
        [
            table(("A", 1, 5.0), published=6.0),
            table(("B", 1, 7.0), published=6.0),
            table(("A", 1, 0.5), metric="recall", published=0.4),
            table(("C", 1, 7.0)),
        ]
    )
    assert (
        findings.beside_published(found) == "Three numbers beside published ones; better than published: 2."
    )
    assert findings.beside_published(table(("A", 1, 5.0))).startswith("No number of this table")


def test_who_gets_better_with_more_calls():
    found = table(
        ("A", 1, 5.0),
        ("A", 4, 4.0),
        ("B", 1, 5.0),
        ("B", 4, 5.0),
        ("C", 1, 2.0),
        ("D", 1, 1.0),
        ("D", 8, 9.0),
    )
    expected = "FID is lower in the most network calls than in the fewest for A; it is not for B and D."
    assert findings.gain_with_calls(found, FID) == expected
    assert findings.gain_with_calls(found[found.method == "D"], FID).endswith("for no method.")
    assert findings.gain_with_calls(found[found.method == "C"], FID) == ""


def log(peak: float) -> dict[str, np.ndarray]:
    norms = np.ones(1000)
    norms[::50] = peak
    return {"gradient_norm": norms}


def test_stability_names_the_extremes_ties_and_what_is_not_finite():
    said = findings.stability({"LMD": [log(1.0)], "EMD": [log(8.0)], "FMM": [log(2.0)]})
    assert said.endswith("is largest for EMD, 8, and smallest for LMD, 1.")
    assert findings.stability({"A": [log(2.0)], "B": [log(2.0)], "C": [log(1.0)]}).endswith(
        "largest for A and B, 2, and smallest for C, 1."
    )
    assert findings.stability({"A": [log(2.0)], "B": [log(2.0)]}) == ""
    said = findings.stability({"A": [log(2.0)], "ESD": [log(2.0), log(np.inf)]})
    assert said == "The gradient norm is not finite in a training of ESD."


def test_verdicts_over_training_seeds_are_counted_apart():
    verdicts = ["supported", "supported", "undecided", "contradicted"]
    over = ["3 training seeds"] * 3 + ["3 sampling seeds of one training"]
    assert findings.verdicts(pd.DataFrame({"verdict": verdicts, "over": over})) == (
        "Three claims over training seeds: 2 supported, 0 contradicted, 1 undecided; "
        "one claim over sampling seeds alone: 0 supported, 1 contradicted, 0 undecided."
    )
    assert findings.verdicts(claims.ledger([], "smoke")) == "No claim of the papers is tested here."


def test_what_costs_least_and_most():
    metric = "seconds per image, batch 1"
    found = table(("LMD", 1, 0.25), ("SI", 64, 12.5), ("SI", 2, 0.5), metric=metric)
    said = f"{metric}: from 0.25 (LMD, one network call) to 12.5 (SI, 64 network calls)."
    assert findings.cheapest(found, metric) == said
