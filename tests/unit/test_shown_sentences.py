"""What notebooks show of the numbers: tables beside costs, and the sentences below them."""

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import findings, methods, sample, speed, tables


def test_what_was_drawn_and_what_a_call_takes():
    index = pd.DataFrame(
        [
            {"method": m, "sampler": s, "steps": n, "nfe": calls, "count": 40, "file": "f"}
            for m, s, n, calls in (("si", "heun", 2, 4), ("si", "heun", 2, 4), ("lmd", "jumps", 1, 1))
        ]
    )
    assert sample.counted(index).reset_index().to_numpy().tolist() == [
        ["si", "heun", 2, 4, 2, 40], ["lmd", "jumps", 1, 1, 1, 40],
    ]  # fmt: skip
    assert methods.counts(index) == "3 arrays, 120 samples in all, each in 1 to 4 network calls."
    timed = pd.DataFrame({"call": "jump", "batch": 4, "seconds": [0.001, 0.002, 0.009]})
    assert speed.by_batch(timed).loc["jump", "batch 4"] == pytest.approx(2)


def test_a_table_with_costs_keeps_its_name_and_its_order():
    row = dict.fromkeys(tables.COLUMNS, "x")
    quality = pd.DataFrame(
        [row | {"table": "a", "metric": m} for m in ("recall", "CLIP score", "FID", "place accuracy")]
    )
    cost = pd.DataFrame([row | {"table": "b", "metric": "seconds"}])
    found = tables.with_cost(quality, [cost, cost.iloc[:0]])
    assert set(found.table) == {"a"} and len(found) == 5 and list(found.columns) == list(tables.COLUMNS)
    assert set(tables.with_cost(quality, [cost], "c").table) == {"c"}
    assert tables.metrics(found) == ["FID", "CLIP score", "place accuracy", "recall", "seconds"]
    assert tables.fit(found) == "CLIP score"
    assert tables.fit(found.assign(metric="attribute accuracy")) == "attribute accuracy"


def test_sentences_about_trainings_say_their_numbers():
    fallen, risen = np.linspace(2, 1, 100), np.linspace(1, 2, 100)
    falling, rising = (
        {"loss": loss, "gradient_norm": norm * np.ones(100)} for loss, norm in ((fallen, 2.0), (risen, 5.0))
    )
    lower = "lower in the last tenth of training than in the first"
    assert methods.fell({"A": [falling]}) == f"The loss of every network is {lower}."
    assert methods.fell({"A": [falling], "B": [falling, rising]}) == (
        f"The loss is {lower}, but not in every training of B."
    )
    assert methods.fell({"A": [{"loss": np.empty(0)}]}) == findings.UNTRAINED
    assert (
        methods.gradients({"A": [falling], "B": [rising]})
        == "Median gradient norms lie between 2 (A) and 5 (B)."
    )
    parts = [{"loss": fallen, "reflow": fallen, "never_used": 0 * fallen}]
    assert (
        methods.last_parts(parts, "A")
        == f"A, mean over the last tenth of training: reflow {fallen[-10:].mean():.3g}."
    )
    zero = np.zeros((2, 2))
    moved = methods.moved({"A": {"N = 1": zero, "N = 4": zero + 3}, "B": {"N = 1": zero, "N = 2": zero + 1}})
    assert moved.endswith("move by (root mean square): B 1; A 3.")


def test_sentences_about_what_is_prepared_say_their_numbers():
    assert findings.tenths(np.arange(20.0)) == (0.5, 18.5)
    assert findings.gap(np.zeros(2), np.array([3.0, 4.0])) == pytest.approx(12.5**0.5)
    assert "about 97.5 % of" in findings.classifier({"accuracy": 0.975})
    figures = {"test": {"PSNR": 31.26, "pairs": 50, "image to text": 0.3}}
    assert findings.reconstruction({"figures": figures}) == (
        "Reconstructions reach a PSNR of 31.3 dB on test."
    )
    assert findings.retrieval({"figures": figures}) == (
        "30.0% of 50 pictures find their own caption (test; chance 2.0%)."
    )
    said = findings.channels({"scale": 2.0, "channels": {"std": [0.25, 0.75]}})
    assert "2 scaled channels lie between 0.50 and 1.50;" in said
    images = np.arange(16.0).reshape(1, 1, 4, 4)
    flipped = {"a": images, "b": images + 2, "c": (images + 2)[..., ::-1]}
    assert findings.apart(flipped, flipped=True).endswith("a and b 2.00, b and c 0.00.")
    assert findings.log({"loss": np.arange(20.0)}).endswith("loss: 0.5, then 18.5.")
    assert findings.images(np.full((2, 3, 4, 5), 0.25)) == (
        "2 images, 3 x 4 x 5; the mean of their values in [-1, 1] is 0.25."
    )
