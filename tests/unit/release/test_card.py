"""The model card repeats the tables."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from fewstep import objectives
from fewstep.data import scenes
from fewstep.release import card, saving
from fewstep.settings import tiers

from .students import FACES, PIXELS, STUDENTS, TEXTS


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
def test_the_numbers_of_a_card_are_those_of_the_tables(here, students, student):
    experiment, method = student
    text = (students[student] / "README.md").read_text(encoding="utf-8")
    label, shown = (
        json.loads((students[student] / "flow_map/config.json").read_text(encoding="utf-8"))["student"][
            "label"
        ],
        {},
    )
    for name in re.findall(r"tables/(\S+)\.csv:", text):
        shown[name] = cells(text, name)
    expected: dict[tuple[str, str], str] = {}
    for path in sorted(
        (here / "results/smoke/tables").glob("*.csv"), key=lambda path: path.stem != experiment
    ):
        with path.open() as file:
            for row in csv.DictReader(file):
                if (row["experiment"], row["method"]) == (experiment, label):
                    expected.setdefault(
                        (row["metric"], row["nfe"]), row["value"] + (f" ± {row['sd']}" if row["sd"] else "")
                    )
                    assert row["protocol"] in text and f"revision {row['revision']}" in text
    merged = {key: value for own in shown.values() for key, value in own.items()}
    assert len(expected) > 15 and merged == expected and sum(map(len, shown.values())) == len(merged), (
        "no cell twice"
    )
    assert next(iter(shown)) == experiment


def test_numbers_of_another_tier_are_on_no_card(here):
    """Also where they stand in the same folder: a number carries its tier everywhere."""
    experiment = saving.find(here, "smoke", PIXELS, "lsd", 0).experiment
    before = card.tables(experiment, "LSD")
    path = here / "results" / "smoke" / "tables" / f"{PIXELS}.csv"
    text = path.read_text(encoding="utf-8")
    try:
        foreign = [
            line.replace(",smoke,", ",paper,").replace(",FID,", ",FID of paper,")
            for line in text.splitlines()
        ]
        path.write_text(text + "\n".join(foreign[1:]) + "\n", encoding="utf-8")
        assert card.tables(experiment, "LSD") == before
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_card_shows_published_numbers_with_their_status(here):
    rows = [
        row
        for row in card.tables(saving.find(here, "smoke", PIXELS, "lsd", 0).experiment, "LSD")[PIXELS]
        if row["metric"] == "FID"
    ]
    rows[0] |= {"published": "8.1", "status": "confirmed"}
    lines = card._grid(rows).splitlines()
    assert lines[0] == "|  | N = 1 | N = 2 | N = 4 | N = 8 | N = 16 |"
    assert (
        lines[2].startswith(f"| FID | {rows[0]['value']} ± ")
        and lines[3] == "| FID, published | 8.1 (confirmed) |  |  |  |  |"
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
        "the text tower of a CLIP (trained here, 4 steps of 32 pairs on `scenes`; sha256 ",
        "13,040 parameters",
        "48 tokens of 560, 16 numbers each; trained with the captions of `scenes`",
        "the first 150 of `coco2017` of `scenes`, zero-shot",
        "a prompt of more than 48 tokens is cut, with a warning",
        "It draws what captions like those of `scenes` say.",
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
    first = scenes.prompt_set("coco2017", 1).captions[0].text
    assert (
        f'pipe("{first}", num_inference_steps=4' in teacher
        and f'pipe("{first}", num_inference_steps=1' in student
    )
    assert f"--steps 1 --prompt '{first}'`" in student and "under its own licence" not in student
    for pair in STUDENTS:
        if pair[0] != TEXTS:
            text = (students[pair] / "README.md").read_text(encoding="utf-8")
            assert (
                "unconditional-image-generation" in text
                and "It draws without a prompt" in text
                and "| guidance |" not in text
            )


def test_a_card_without_the_files_of_its_prompts_has_an_example_all_the_same(here, monkeypatch):
    def absent(*asked):
        raise FileNotFoundError("download them")

    experiment = saving.find(here, "smoke", TEXTS, "si", 0).experiment
    monkeypatch.setattr(card.prompts, "load", absent)
    assert card.example_prompt(experiment) == card.PROMPT


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
    for _ in (here / "results/smoke/tables").glob("*.csv"):
        assert card.tables(choice.experiment, "LSD") and not card.tables(choice.experiment, "no such method")
    (here / "results/smoke/tables").rename(here / "results/smoke/elsewhere")
    try:
        said = card.numbers(choice.experiment, "lsd", 0)
    finally:
        (here / "results/smoke/elsewhere").rename(here / "results/smoke/tables")
    assert said == ["No table of results/smoke/tables holds this method: nothing was measured."]


def test_every_objective_names_a_paper(root):
    assert {
        name: bool(re.fullmatch(r"\d{4}\.\d{5}", card.paper(name))) for name in objectives.names()
    } == dict.fromkeys(objectives.names(), True)
    for tier in tiers.TIERS:
        for experiment in tiers.load(root / "params.yaml", tier).experiments.values():
            assert all(
                "https://arxiv.org/abs/" in line
                for method in experiment.methods.values()
                for line in card.papers(method)
            )
    assert set(card.LIMITS) == set(tiers.TIERS)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda text: text.replace(",protocol,", ",protocoll,", 1), "'protocol'"),
        (lambda text: text[: text.index(",LSD,") + 25], "a row is cut short"),
        (lambda text: text.encode() + b"\xff", "codec"),
    ],
)
def test_a_table_that_is_damaged_is_one_sentence_that_names_it(here, tmp_path, spoil, said):
    found = saving.find(here, "smoke", PIXELS, "lsd", 0).experiment
    text = (here / "results/smoke/tables" / f"{PIXELS}.csv").read_text(encoding="utf-8")
    tables = tmp_path / "results/smoke/tables"
    tables.mkdir(parents=True)
    spoilt = spoil(text)
    (tables / f"{PIXELS}.csv").write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    own = replace(found, workspace=replace(found.workspace, root=tmp_path))
    with pytest.raises(ValueError, match=rf"{PIXELS}.csv is no table of results \(.*{said}.*\): run `dvc"):
        card.tables(own, found.settings.method("lsd").label)
