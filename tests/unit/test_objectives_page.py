"""docs/objectives.md lists every objective with its file, papers, teacher and settings."""

from __future__ import annotations

import inspect
import re

import pytest

from fewstep import objectives

ROW = r"^\| \[(\w+)\]\(\.\./src/fewstep/objectives/(\w+)\.py\) \|(.*)\|$"


@pytest.fixture(scope="module")
def rows(root) -> dict[str, list[str]]:
    text = (root / "docs" / "objectives.md").read_text(encoding="utf-8")
    found = re.findall(ROW, text, re.MULTILINE)
    assert all(name == file for name, file, _ in found)
    return {name: [cell.strip() for cell in cells.split("|")] for name, _, cells in found}


def test_every_objective_has_a_row(rows):
    assert sorted(rows) == objectives.names()


@pytest.mark.parametrize("name", objectives.names())
def test_a_row_says_what_the_objective_says_of_itself(rows, name):
    residual, papers, teacher, settings = rows[name]
    first = objectives.equation(name).partition("\n")[0]
    assert residual.count("$") in (2, 4)
    assert re.findall(r"\d{4}\.\d{5}", first) == papers.split(", ")
    parameters = inspect.signature(objectives.load(name)).parameters
    taken = [key for key in parameters if key not in ("student", "batch", "teacher", "stopped")]
    assert settings == ", ".join(taken)
    assert (teacher != "none") == objectives.needs_teacher(name)
    if teacher != "none":
        assert teacher == ("map" if "FlowMap" in str(parameters["teacher"].annotation) else "velocity")


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_is_read_at_a_glance(name):
    """At most thirty lines, its docstring with the example among them."""
    assert len(inspect.getsource(objectives.load(name)).splitlines()) <= 30
