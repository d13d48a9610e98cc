"""Other papers' formulas are this library's functions, and the exact worlds' tables are what they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from fewstep.evaluation import consistency_error, eulerian_family, tables
from fewstep.evaluation.equivalences import check, entries
from fewstep.evaluation.provenance import Provenance
from fewstep.flows.interpolants import LINEAR, Batch

from .exact import F64, close

ORIGIN = Provenance("6-one-map", "0123456789ab", "abc", "a CPU", "torch")
UNTRAINED = pd.DataFrame(columns=tables.COLUMNS)


@pytest.mark.parametrize("entry", entries.ENTRIES, ids=lambda entry: entry.name[:40])
def test_the_two_sides_are_one_by_values_and_by_gradients(entry):
    for seed in (0, 1):
        value, slope = check.differences(entry, check.case(seed))
        assert value < check.EXACT
        assert slope is None or slope < check.EXACT
    theirs, ours = entry.sides(own := check.case(0))
    assert ours.abs().max() > 1e-2
    if theirs.ndim == 1:
        assert torch.cat([g.flatten() for g in _gradients(ours, own.student)]).norm() > 1e-2


def _gradients(residual, student):
    return torch.autograd.grad(residual.mean(), list(student.parameters()), materialize_grads=True)


@pytest.mark.parametrize("entry", entries.ENTRIES, ids=lambda entry: entry.name[:40])
def test_no_side_is_the_other_called_twice(entry):
    """Each is computed on its own: a spoiled library function is noticed."""
    own = check.case(0)
    theirs, _ = entry.sides(own)
    _, ours = entry.sides(replace(own, student=check.case(5).student, teacher=own.ema))
    if theirs.ndim == 1:
        assert (theirs - ours).abs().max() > 1e-3


def test_what_differs_is_called_so_and_what_is_not_the_same_too():
    own = entries.ENTRIES[0]
    spoiled = replace(
        own, name="spoiled", sides=lambda case: tuple(k * v for k, v in zip((1, 2), own.sides(case)))
    )
    beyond = next(entry for entry in entries.ENTRIES if entry.beyond)
    table = check.table([own, spoiled, beyond], seeds=[0])
    assert list(table[""]) == ["the same", "NOT the same", "differs by the term below"]
    text = check.formulas([own, beyond])
    assert text.count("$$") == 2 * 5 and beyond.beyond in text and "arxiv.org/abs/2506.14603" in text


def test_titles_begin_with_a_capital_and_keep_the_names_of_methods():
    text = check.formulas(entries.ENTRIES)
    assert "**A shortcut model is PSD-M on" in text and "**Improved MeanFlow is the Eulerian" in text


# The Eulerian family ------------------------------------------------------------------------------------


def fixed(s: float, t: float, flow, count: int, seed: int = 0) -> Batch:
    x0, x1 = flow.sample(count, torch.Generator().manual_seed(seed))
    times = (torch.full((count,), k, dtype=F64) for k in (s, t, 0.5))
    return Batch(x0, x1, *times, LINEAR)


@pytest.mark.parametrize("ratio", eulerian_family.RATIOS.values())
def test_the_residuals_of_the_family_at_the_exact_map_are_what_remains_of_the_draw(ratio):
    """Sample by sample: dI - b by grad X, by one, or by grad X - 1; nothing where nothing is drawn."""
    flow, (s, t) = eulerian_family.world(ratio), (0.3, 0.8)
    batch = fixed(s, t, flow, 50)
    slope = (((1 - t) ** 2 + ratio * t**2) / ((1 - s) ** 2 + ratio * s**2)) ** 0.5
    path = batch.at(batch.s)
    noise = path.velocity - flow.velocity(batch.s, path.point)
    for (target, direction, stop), factor in {
        ("dI", "dI", "all"): slope, ("dI", "v_ss", "transport"): 1.0, ("v_ss", "dI", "all"): slope - 1,
        ("v_ss", "v_ss", "transport"): 0.0,
    }.items():  # fmt: skip
        student = eulerian_family.Scaled(flow)
        close(
            eulerian_family.residual(student, batch, target, direction, stop).detach(), -factor * noise, 1e-9
        )


def test_the_variances_are_those_of_the_closed_form_within_their_errors():
    flow, (s, t), count = eulerian_family.world(0.25), (0.3, 0.8), 40_000
    batch = fixed(s, t, flow, count)
    variance = 0.25 / ((1 - s) ** 2 + 0.25 * s**2)  # of dI given I
    value, error = eulerian_family.variances(("dI", "v_ss", "all"), flow, batch)[eulerian_family.RESIDUAL]
    assert abs(value - variance) < 4 * error and error < 0.02
    # the gradient of r^2 in theta is 2 r (1 + s t) I_s, and I_s does not depend on r in mean or variance
    gradient, error = eulerian_family.variances(("dI", "v_ss", "all"), flow, batch)[eulerian_family.GRADIENT]
    point = (1 - s) ** 2 + 0.25 * s**2
    assert abs(gradient - 4 * variance * point * (1 + s * t) ** 2) < 4 * error


def test_a_family_table_holds_all_eight_and_beside_them_the_trained_ones():
    quality = consistency_error.table("smoke", ORIGIN, UNTRAINED, steps=(1, 2)).assign(
        method="MeanFlow", metric="KL"
    )
    table = eulerian_family.table(100, 0, "smoke", ORIGIN, quality)
    assert table.method.nunique() == 8 and set(table.table) == {eulerian_family.NAME}
    own = table[table.metric == "KL"]
    assert set(own.method) == {eulerian_family.label(("dI", "dI", "all"))} and len(own) == 2 * 3
    assert (table.nfe[table.metric != "KL"] == 0).all() and np.isfinite(table.value).all()
    for wrong in (("b", "dI", "all"), ("dI", "b", "all"), ("dI", "dI", "none")):
        with pytest.raises(ValueError, match="must be one of"):
            eulerian_family.residual(*_pair(), *wrong)


def _pair():
    own = check.case(0)
    return own.student, own.batch


# The error of a consistency model -----------------------------------------------------------------------


def test_w2_of_slightly_wrong_maps_is_what_is_known():
    """Computed elsewhere for c = 0.5, e = 0.01: two steps are best, then eight; a flow map only gains."""
    known = {
        "consistency model, error e": (0.0100, 0.0076, 0.0095, 0.0139, 0.0218, 0.0354, 0.0588),
        "consistency model, error e (1 - s)": (0.0100, 0.0048, 0.0039, 0.0038, 0.0041, 0.0049, 0.0061),
        "flow map, error e (t - s)": (0.0100, 0.0073, 0.0060, 0.0055, 0.0053, 0.0051, 0.0051),
    }
    table = consistency_error.table("smoke", ORIGIN, UNTRAINED)
    for name, values in known.items():
        found = table[table.method == name].sort_values("nfe").value.to_numpy()
        np.testing.assert_allclose(0.01 * found, values, atol=5.1e-5)


def test_exact_maps_have_no_error_in_any_number_of_steps():
    world = consistency_error.World(e=0.0)
    for w2 in consistency_error.ROWS.values():
        assert max(w2(world, n) for n in consistency_error.STEPS) < 1e-15


def test_w2_is_that_of_samples():
    """Of 200,000 samples that make the same steps: their deviation, whose own error is 0.002."""
    generator, world = np.random.default_rng(0), consistency_error.World(e=0.05)
    x = generator.standard_normal(200_000)
    for s, t in ((0.0, 0.5), (0.5, 1.0)):
        x = consistency_error.constant(world, s) * x
        x = t * x + (1 - t) * generator.standard_normal(len(x))
    assert (
        abs(abs(x.std() - world.c) - consistency_error.renoised(world, consistency_error.constant, 2)) < 5e-3
    )
