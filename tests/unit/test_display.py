"""Tables in notebooks: shown whole by one function, which every notebook of the evaluation goes through."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims, measure, tables
from fewstep.evaluation.display import LEFT, RIGHT, show_table
from fewstep.evaluation.metric import Comparison

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/[45]-*.ipynb"))


def parsed(frame: pd.DataFrame, caption: str | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(show_table(frame, caption).data)


def test_a_table_is_whole_rounded_and_aligned():
    words = "a sentence of far more letters than the fifty at which pandas would cut it, and then some"
    frame = pd.DataFrame({"text": [words, "b < c"], "x": [1234.5678, np.nan], "n": [3, 1_000_000]})
    root = parsed(frame.assign(**{f"c{k}": 0.123456 for k in range(30)}), "a caption")
    rows = [[cell.text or "" for cell in row] for row in root.find("tbody")]
    assert rows[0][:3] == [words, "1235", "3"] and rows[1][:3] == ["b < c", "", "1000000"]
    assert all(row[3:] == ["0.1235"] * 30 for row in rows) and root.find("caption").text == "a caption"
    assert [cell.get("style") for cell in root.find("tbody")[0]][:3] == [LEFT, RIGHT, RIGHT]


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0"),
        (-1.0, "-1"),
        (2e-7, "2e-07"),
        (123456.7, "123500"),
        (1e12, "1e+12"),
        (np.inf, "inf"),
        (pd.NA, ""),
    ],
)
def test_a_float_has_four_significant_digits(value, text):
    assert (parsed(pd.DataFrame({"x": [value]})).find("tbody")[0][0].text or "") == text


def test_the_index_stands_in_the_first_columns():
    frame = pd.DataFrame({"x": [1.0]}, index=pd.MultiIndex.from_tuples([("FID", 4)], names=["metric", "nfe"]))
    root = parsed(frame.rename_axis(columns="of"))
    assert [cell.text for cell in root.find("thead")[0]] == ["metric", "nfe", "x"]
    assert [cell.tag for cell in root.find("tbody")[0]] == ["th", "th", "td"] and root.find(
        "caption"
    ).text == "of"


def shown(node: ast.expr, pictures: set[str]) -> bool:
    """Whether what a notebook's line shows is a table through show_table, a picture, or text."""
    if isinstance(node, ast.Name):
        return node.id in pictures
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    if name == "display":
        return all(shown(argument, pictures) for argument in node.args)
    return name in {"show_table", "Markdown", "print", "report.write"}


def outputs(notebook: Path) -> list[tuple[ast.expr, set[str]]]:
    """What the cells of a notebook show, last values and calls of `display`, and its pictures' names."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    trees, plots, found = [ast.parse("".join(cell["source"])) for cell in cells], set(), []
    nodes = [node for tree in trees for node in ast.walk(tree)]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and ".plots" in node.module:
            plots |= {alias.name for alias in node.names}
    pictures = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and ast.unparse(node.value.func) in plots
    }
    for tree in trees:
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "display"]
        last = [tree.body[-1].value] if isinstance(tree.body[-1], ast.Expr) else []
        found += [(node, pictures) for node in [*calls, *last]]
    return found


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_table_of_a_notebook_is_shown_through_one_function(notebook):
    found = outputs(notebook)
    assert found and [ast.unparse(node) for node, pictures in found if not shown(node, pictures)] == []


def test_a_bare_frame_would_be_noticed():
    for line in ("frame", "tables.shown(table, 'FID')", "display(measure.means(rows))"):
        assert not shown(ast.parse(line, mode="eval").body, {"picture"})
    assert shown(
        ast.parse("display(show_table(frame), Markdown('x'), picture)", mode="eval").body, {"picture"}
    )


def test_claims_in_one_training_say_so_and_stand_apart():
    own = claims.Claim("a", "p", "s", "FID(A) - FID(B) (FID)", (1.0, 1.1, 0.9), "t", "3 training seeds")
    one = claims.Claim(
        "b", "p", "s", "KL(A) (nats)", (0.1, 0.2), "t", "2 sampling seeds of one training", 10.0
    )
    ledger = claims.ledger([own, one], "smoke")
    assert list(ledger.verdict) == ["supported", "contradicted"] and list(ledger.over) == [own.over, one.over]
    first, second = claims.shown(ledger).values()
    assert first.loc["a", ["statistic", "claimed", "over", "verdict"]].to_list() == [
        "FID(A) - FID(B) (FID)", "> 0", "3 training seeds", "supported",
    ]  # fmt: skip
    assert second.loc["b", ["claimed", "verdict"]].to_list() == ["> 10", "contradicted in this training"]
    two = claims.ledger(
        [claims.Claim("c", "p", "s", "x", (1.0, 1.1), "t", "2 sampling seeds of 2 trainings")], "smoke"
    )
    assert claims.shown(two).popitem()[1].verdict["c"] == "supported in these trainings"
    # a ledger of an earlier version has what the interval runs over in its statistic
    later = ["over", "effect", "effect_low", "effect_high", "sign_p"]
    older = ledger.drop(columns=later).assign(statistic=ledger.statistic + "; interval over " + ledger.over)
    parts = [part.drop(columns=["effect", "sign test"]) for part in (first, second)]
    assert all(a.equals(b) for a, b in zip(claims.shown(older).values(), parts, strict=True))


def test_what_protocols_share_is_said_once(smoke, monkeypatch):
    settings = smoke.experiment("fmm-checkerboard")
    monkeypatch.setattr(measure, "comparison", lambda experiment: Comparison(settings))
    points = measure.protocols(SimpleNamespace())
    assert points.loc["KL to target", "protocol"].startswith("KL(target || histogram), 4")
    data = SimpleNamespace(
        extractor=SimpleNamespace(name="an extractor", resize="none"),
        split="train",
        checksum="c",
        values=np.empty(9),
    )
    images = smoke.experiment("fmm-cifar10")
    monkeypatch.setattr(measure, "comparison", lambda experiment: Comparison(images, data=data))
    found = measure.protocols(SimpleNamespace())
    assert found.loc["all", "extractor"] == "an extractor" and set(found.extractor.iloc[1:]) == {""}
    assert (
        found.loc["T-FID", "reference"] == "same training seed and other noise"
        and found.loc["all", "split"] == ""
    )


def test_every_measure_that_settings_may_name_is_a_metric_and_the_other_way_round():
    from fewstep.settings.experiment import IMAGES, POINTS

    assert set(measure.METRICS) == {*POINTS, *IMAGES}
    assert all(
        set(metric.higher) <= set(metric.names) and metric.about for metric in measure.METRICS.values()
    )


def test_a_metric_is_shown_with_its_own_decimals():
    row = {
        "method": "A",
        "nfe": 1,
        "value": 1.23456,
        "sd": np.nan,
        "published": None,
        "status": "not on file",
    }
    frame = pd.DataFrame([row | {"metric": "FID"}, row | {"metric": "KL to target"}])
    assert tables.shown(frame, "FID").loc["A", "N = 1"] == "1.23"
    assert tables.shown(frame, "KL to target").loc["A", "N = 1"] == "1.235"
