"""The model card repeats the tables."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from math import isnan
from types import SimpleNamespace

import pytest
from PIL import Image

from fewstep import objectives
from fewstep.evaluation.tables import COARSE, read_table
from fewstep.release import card, saving
from fewstep.settings import tiers

from .students import FACES, PIXELS, STUDENTS, TEXTS

TABLES = "results/smoke/tables"


def cells(text: str, name: str) -> dict[tuple[str, str], str]:
    """The cells of the card's table `name` by metric and number of steps."""
    head, _, *lines = text.split(f"tables/{name}.csv:\n\n")[1].split("\n\n")[0].splitlines()
    steps = [cell.strip().removeprefix("N = ") for cell in head.strip("| ").split("|")]
    steps = [n for n in steps if n]
    found = {}
    for line in lines:
        metric, *values = [cell.strip() for cell in line[1:-1].split("|")]
        found |= {(metric, n): value for n, value in zip(steps, values, strict=True) if value}
    return found


@pytest.mark.parametrize("student", STUDENTS)
def test_the_numbers_of_a_card_are_those_of_the_report(here, students, student):
    experiment, method = student
    text = (students[student] / "README.md").read_text(encoding="utf-8")
    config = json.loads((students[student] / "flow_map/config.json").read_text(encoding="utf-8"))
    label, found = config["student"]["label"], {}
    for name in re.findall(r"tables/(\S+)\.csv:", text):
        assert not found.keys() & cells(text, name).keys(), "no cell twice"
        found |= cells(text, name)
    expected: dict[tuple[str, str], str] = {}
    for path in sorted((here / TABLES).glob("*.csv"), key=lambda path: path.stem != experiment):
        table = read_table(path)
        own = table[(table.experiment == experiment) & (table.method == label)]
        for row in own.itertuples():
            digits = 2 if row.metric in COARSE else 3
            deviation = "" if isnan(row.sd) else f" ± {row.sd:.{digits}f}"
            expected.setdefault((row.metric, f"{row.nfe}"), f"{row.value:.{digits}f}{deviation}")
            assert row.protocol in text and f"revision {row.revision}" in text
    ours = {key: value for key, value in found.items() if not key[1].endswith("published")}
    assert len(expected) > 15 and ours == expected
    assert re.search(r"tables/(\S+)\.csv:", text)[1] == experiment


def test_numbers_of_another_tier_are_on_no_card(here):
    """Also where they stand in the same folder: a number carries its tier everywhere."""
    experiment = saving.find(here, "smoke", PIXELS, "lsd", 0).experiment
    assert PIXELS in card.rows(experiment, "LSD")
    path = here / TABLES / f"{PIXELS}.csv"
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace(",smoke,", ",paper,"), encoding="utf-8")
        assert PIXELS not in card.rows(experiment, "LSD")
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_card_shows_published_numbers_with_their_status(here):
    path = here / TABLES / f"{PIXELS}.csv"
    text = path.read_text(encoding="utf-8")
    table = read_table(path)
    one = (table.method == "LSD") & (table.metric == "FID") & (table.nfe == 1)
    try:
        table.loc[one, ["published", "status"]] = [8.1, "confirmed"]
        table.to_csv(path, index=False)
        said = card.numbers(saving.find(here, "smoke", PIXELS, "lsd", 0).experiment, "lsd", 0)
    finally:
        path.write_text(text, encoding="utf-8")
    head, _, *lines = said[2].splitlines()
    assert head == "|  | N = 1 | N = 1, published | N = 2 | N = 4 | N = 8 | N = 16 |"
    value = table[one].value.item()
    # with one training there is no deviation beside it
    assert re.match(
        rf"\| FID \| {value:.2f}( ± [\d.]+)? \| 8.10 c \({re.escape(f'{value - 8.1:+.2f}')}\) \|", lines[0]
    )


def test_a_card_says_who_where_and_how_far(here, students):
    text = (students[FACES, "scflow"] / "README.md").read_text(encoding="utf-8")
    for piece in (
        "license: apache-2.0",
        f"# {FACES}, SCFlow",
        "tier smoke",
        "from the teacher `si`",
        "`faces`, images of 3 x 8 x 8 in 256 levels",
        "Euler steps",
        "training seed 0",
        "[arXiv 2412.16906](https://arxiv.org/abs/2412.16906)",
        "mean nothing but that every part runs",
        "latents are scaled by 0.7",
        'FewStepPipeline.from_pretrained("scflow-celebahq-scflow")',
        "num_inference_steps=1",
        "Apache-2.0",
    ):
        assert piece in text, piece
    digits = (students[PIXELS, "lsd"] / "README.md").read_text(encoding="utf-8")
    assert (
        "jumps of the flow map" in digits
        and "`lsd`, Lagrangian self-distillation: [arXiv 2505.18825]" in digits
        and "in 17 levels" in digits
    )
    # a teacher of velocities is nothing in one step
    assert (
        re.search(
            r"num_inference_steps=(\d+)",
            (students["fmm-cifar10", "si"] / "README.md").read_text(encoding="utf-8"),
        )[1]
        != "1"
    )


def test_a_card_says_what_a_student_is_conditioned_on(students):
    teacher, student = (
        (students[TEXTS, method] / "README.md").read_text(encoding="utf-8") for method in ("si", "scflow")
    )
    for piece in (
        "pipeline_tag: text-to-image",
        "48 tokens of 560, by the text tower of a CLIP (trained here, 4 steps of 32 pairs on `scenes`; sha2",
        "It draws what captions like those of `scenes` say",
    ):
        assert piece in teacher and piece in student, piece
    assert (
        "| guidance | 1.5 against the empty text, two network calls a step, unless a call names a "
        "`guidance_scale`; trained with 10% of its captions left empty |" in teacher
    )
    assert (
        "| guidance | none, one network call a step, unless a call names a `guidance_scale`; trained with "
        "its teacher under guidance of 1.5 |" in student
    )
    assert 'pipe("a red circle", num_inference_steps=4' in teacher
    assert 'pipe("a red circle", num_inference_steps=1' in student
    assert '--steps 1 --prompt "a red circle"`' in student and "under its own licence" not in student
    for pair in STUDENTS:
        if pair[0] != TEXTS:
            text = (students[pair] / "README.md").read_text(encoding="utf-8")
            assert (
                "unconditional-image-generation" in text
                and "It draws without a prompt" in text
                and "| guidance |" not in text
            )


@pytest.mark.parametrize("student", [(PIXELS, "lsd"), (TEXTS, "scflow")])
def test_the_three_lines_of_a_card_run_as_they_stand(students, monkeypatch, tmp_path, student):
    place = students[student]
    code = (
        (place / "README.md")
        .read_text(encoding="utf-8")
        .split("```python\n")[1]
        .split("```")[0]
        .replace('"one.png"', repr(str(tmp_path / "one.png")))
    )
    monkeypatch.chdir(place.parent)
    exec(compile(code, "README.md", "exec"), {})
    with Image.open(tmp_path / "one.png") as found:
        assert found.size == (8, 8)


def test_a_card_without_a_table_says_so(here):
    choice = saving.find(here, "smoke", PIXELS, "lsd", 0)
    assert card.rows(choice.experiment, "LSD") and not card.rows(choice.experiment, "no such method")
    (here / "results/smoke/tables").rename(here / "results/smoke/elsewhere")
    try:
        said = card.numbers(choice.experiment, "lsd", 0)
    finally:
        (here / "results/smoke/elsewhere").rename(here / "results/smoke/tables")
    assert said == ["No table of results/smoke/tables holds this method: nothing was measured."]


def test_every_objective_names_a_paper(root):
    for name in (*objectives.names(), "scflow"):
        terms = SimpleNamespace(self_correction=name == "scflow", terms=[SimpleNamespace(objective=name)])
        assert re.fullmatch(rf"- `{name}`, .+: \[arXiv (\d{{4}}\.\d{{5}})\]\(\S+/\1\)", *card.papers(terms))
    for tier in tiers.TIERS:
        for experiment in tiers.load(root / "params.yaml", tier).experiments.values():
            assert all(
                "https://arxiv.org/abs/" in line
                for method in experiment.methods.values()
                for line in card.papers(method)
            )
    assert set(card.LIMITS) == set(tiers.TIERS)


def test_a_table_that_is_damaged_is_one_sentence_that_names_it(here, tmp_path):
    found = saving.find(here, "smoke", PIXELS, "lsd", 0).experiment
    text = (here / TABLES / f"{PIXELS}.csv").read_text(encoding="utf-8")
    (tmp_path / TABLES).mkdir(parents=True)
    (tmp_path / TABLES / f"{PIXELS}.csv").write_text(text[: text.index(",LSD,") + 25], encoding="utf-8")
    own = replace(found, workspace=replace(found.workspace, root=tmp_path))
    with pytest.raises(ValueError, match=rf"{PIXELS}.csv is cut short, .*: run `dvc repro`"):
        card.rows(own, "LSD")
