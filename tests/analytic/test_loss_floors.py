"""The numbers of docs/losses.md: the value of every loss at the exact flow map, computed and compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fewstep.objectives import names

from . import floors
from .floors import BOARD, GAUSSIAN, ZERO, ExactCheckerboard, evaluate, evaluate_scflow

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"
QUADRATURE = ("si", "fmm", "eulerian", "fmm, forward", "imeanflow", "contrastive")
SCFLOW = ("scflow consistency", "scflow truncated", "scflow bidirectional", "scflow reflow")
# Monte Carlo on the page: the samples of the test and where the law of times is cut
SAMPLED = {
    "meanflow": (2500, 0.8), "reflow": (40_000, 0.9), "velocity_consistency": (40_000, 1.0),
    "discrete_consistency": (2000, 0.8), "consistency_training": (2000, 0.8),
}  # fmt: skip
INFINITE = ("meanflow", "reflow")


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the page's table whose first column is called `heading`: its cells by the first one."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.search(rf"^\| {heading} \|.*\n\|[-| :]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    cells = [[cell.strip() for cell in row.strip(" |").split("|")] for row in rows.splitlines()]
    return {row[0].replace("`", ""): row[1:] for row in cells}


@pytest.fixture(scope="module")
def page() -> dict[str, list[str]]:
    return table("loss")


@pytest.fixture(scope="module")
def closed() -> dict[str, float]:
    return floors.gaussian_floors()


def states(cell: str, value: float) -> bool:
    """Whether the cell holds `value` rounded to its digits."""
    number = re.search(r"\d+\.\d+", cell)[0]
    return number == f"{value:.{len(number.partition('.')[2])}f}"


def agrees(cell: str, found: torch.Tensor) -> bool:
    """Whether a cell "mean ± error" and these samples differ by less than four standard errors of both."""
    mean, error = (float(k) for k in re.search(r"([\d.]+) ± ([\d.]+)", cell).groups())
    own = found.std().item() / len(found) ** 0.5
    assert error < own, "the page's number comes from more samples than the test's"
    return abs(found.mean().item() - mean) < 4 * (error**2 + own**2) ** 0.5


def test_every_objective_has_a_row(page):
    assert {row.partition(",")[0] for row in page if not row.startswith("scflow")} == set(names())


def test_the_page_states_the_gaussian_floors(page, closed):
    zero = {row for row, cells in page.items() if cells[1] == "0"}
    assert zero == set(ZERO) == {row for row, cells in page.items() if cells[2] == "0"}
    assert zero | set(closed) | {"imm"} == set(page)
    for row, value in closed.items():
        assert states(page[row][1], value), (row, value)


@pytest.mark.parametrize("row", [*QUADRATURE, *SAMPLED, "ctm"])
def test_the_objective_has_its_floor_on_the_gaussian(closed, row):
    found = evaluate(row, GAUSSIAN, 50_000)
    assert abs(found.mean() - closed[row]) < 4 * found.std() / len(found) ** 0.5


def test_scflows_losses_have_their_floors_on_the_gaussian(closed):
    for row, found in evaluate_scflow(GAUSSIAN, 50_000).items():
        assert abs(found.mean() - closed[row]) < 4 * found.std() / len(found) ** 0.5 + 1e-12, row


@pytest.mark.parametrize("row", ZERO)
def test_what_the_page_calls_zero(row):
    """On the checkerboard up to the integration of the map, of second order."""
    assert evaluate(row, GAUSSIAN, 1000).max() < 1e-20
    assert evaluate(row, ExactCheckerboard(substeps=25), 200, latest=0.9).mean() < 1e-5


def test_the_page_states_the_conditional_variances_of_the_checkerboard(page):
    uniform, forward = floors.conditional_variances()
    values = {"fmm, forward": forward, "imeanflow": 2 * uniform - forward}
    values["contrastive"] = floors.contrasted(uniform, 4 / 3)
    for row in QUADRATURE:
        assert states(page[row][2], values.get(row, uniform)), row
    found = evaluate("si", BOARD, 100_000)
    assert abs(found.mean() - uniform) < 4 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize("row", ["fmm", "eulerian"])
def test_direct_losses_keep_the_velocity_losss_residual_on_the_checkerboard(row):
    """Sample by sample at the same (t, x0, x1), so that a few samples are enough. For t < 0.9, beyond which
    the map's integration is too coarse for this."""
    found = evaluate(row, BOARD, 100, latest=0.9)
    same = floors.velocity_residual(row, BOARD, 100, latest=0.9)
    assert (found - same).abs().mean() < 1e-3


@pytest.mark.parametrize("row", SAMPLED)
def test_the_page_states_the_sampled_values_of_the_checkerboard(page, row):
    count, latest = SAMPLED[row]
    assert (latest == 1 or f"≤ {latest}" in page[row][2]) and ("∞" in page[row][2]) == (row in INFINITE)
    assert agrees(page[row][2], evaluate(row, BOARD, count, latest))


@pytest.mark.parametrize("flow, latest", [(GAUSSIAN, 1.0), (BOARD, 0.9)], ids=["gaussian", "checkerboard"])
def test_the_statistic_of_pairs_is_zero_in_the_mean(page, flow, latest):
    assert page["imm"][1] == page["imm"][2] == "0 in the mean"
    found = evaluate("imm", flow, 4000, latest)[:2000]
    assert abs(found.mean()) < 4 * found.std() / len(found) ** 0.5 and found.min() < 0


def test_the_page_states_scflows_losses_on_the_checkerboard(page, closed):
    for row, found in evaluate_scflow(BOARD, 1500).items():
        assert agrees(page[row][2], found) if row in SCFLOW else states(page[row][2], closed[row]), row


def test_meanflows_loss_grows_with_the_end_time_on_the_checkerboard():
    """Where a small grid resolves the tear; the mean over all t is not finite."""
    text = PAGE.read_text(encoding="utf-8")
    stated = re.search(r"at s = 0 it is ([\d.]+) for t = 0.5, ([\d.]+) for 0.8", text)
    for cell, t in zip(stated.groups(), (0.5, 0.8)):
        assert states(cell, floors.meanflow_from_noise(t, substeps=50)), t
