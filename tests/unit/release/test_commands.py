"""python -m fewstep save and sample."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from PIL import Image

from fewstep import cli
from fewstep.release import commands, seeded

from .students import PIXELS, TEXTS


def run(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    """The exit status of `python -m fewstep`, and what it says."""
    monkeypatch.setattr(sys, "argv", ["fewstep", *map(str, words)])
    status = cli.main()
    said = capsys.readouterr()
    return status, said.err if status else said.out


def test_a_student_is_saved_and_a_picture_drawn(here, monkeypatch, capsys, tmp_path, pipe):
    asked = ("save", "--experiment", PIXELS, "--method", "lsd", "--tier", "smoke")
    status, said = run(monkeypatch, capsys, *asked)
    place = tmp_path / "scratch" / "smoke" / "students" / f"{PIXELS}-lsd-seed-0"
    assert status == 0 and f"python -m fewstep sample {place}" in said
    assert run(monkeypatch, capsys, *asked)[0] == 0, "over itself"
    # outside a clone, where people who only want pictures are
    monkeypatch.chdir(tmp_path)
    status, said = run(
        monkeypatch,
        capsys,
        "sample",
        place,
        "--steps",
        "2",
        "--count",
        "5",
        "--seed",
        "1",
        "--to",
        tmp_path / "new" / "five.png",
    )
    assert status == 0 and f"shows 5 images: LSD of {PIXELS}, N = 2, sampling seed 1" in said
    with Image.open(tmp_path / "new" / "five.png") as found:
        pixels = np.asarray(found)
    assert pixels.shape == (2 * 66 - 2, 3 * 66 - 2)
    for k, image in enumerate(pipe(num_inference_steps=2, batch_size=5, generator=seeded(1)).images):
        top, left = k // 3 * 66, k % 3 * 66
        assert np.array_equal(
            pixels[top : top + 64, left : left + 64], np.asarray(image).repeat(8, 0).repeat(8, 1)
        )
    assert (pixels[66:, 2 * 66 :] == 255).all()
    assert (
        run(monkeypatch, capsys, "sample", place)[0] == 0
        and run(monkeypatch, capsys, "sample", place)[0] == 0
    )
    assert (tmp_path / "picture.png").is_file()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"--experiment": "nothing"}, "there is no experiment 'nothing'; there are"),
        ({"--method": "nothing"}, "there is no method 'nothing' in this experiment; there are lsd"),
        ({"--tier": "nothing"}, "there is no tier 'nothing'"),
        ({"--seed": "99"}, f"'{PIXELS}' is trained from the seeds 0.* at tier 'smoke', and not from 99"),
        ({"--method": "esd"}, "esd/seed-0.safetensors is not there: run `dvc repro` at tier 'smoke'"),
        (
            {"--experiment": "selfdistill-checkerboard"},
            "models points in the plane, which make no pictures; a pipeline draws images: .*scflow-celebahq",
        ),
    ],
)
def test_a_student_that_is_not_there_is_one_sentence(here, monkeypatch, capsys, tmp_path, changes, said):
    words = {"--experiment": PIXELS, "--method": "lsd", "--tier": "smoke", "--to": tmp_path / "to"} | changes
    status, found = run(monkeypatch, capsys, "save", *(word for pair in words.items() for word in pair))
    assert (
        status == 1 and re.search(said, found) and found.count("\n") == 1 and not (tmp_path / "to").exists()
    )


def test_a_destination_of_somebody_else_is_left_alone(here, students, monkeypatch, capsys, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine", encoding="utf-8")
    status, said = run(
        monkeypatch,
        capsys,
        "save",
        "--experiment",
        PIXELS,
        "--method",
        "lsd",
        "--tier",
        "smoke",
        "--to",
        mine,
    )
    assert (
        status == 1
        and said
        == f"fewstep: {mine} exists and is no saved student: nothing was written; name another folder\n"
    )
    Image.new("L", (3, 3)).save(mine / "photo.png")
    (mine / "text.png").write_text("mine", encoding="utf-8")
    before = {path: path.read_bytes() for path in mine.iterdir()}
    for name, words in (
        ("photo.png", "was not written by `python -m fewstep sample`"),
        ("text.png", "was not written by"),
        ("a.jpg", "does not end with .png"),
    ):
        status, said = run(monkeypatch, capsys, "sample", students[PIXELS, "lsd"], "--to", mine / name)
        assert status == 1 and words in said and said.count("\n") == 1
    assert {path: path.read_bytes() for path in mine.iterdir()} == before


@pytest.mark.parametrize(
    "words, said",
    [
        (["--steps", "0"], "--steps is a whole number from 1 to 10,000, not 0"),
        (["--steps", "-2"], "--steps is a whole number from 1 to 10,000, not -2"),
        (["--count", "0"], "--count is a whole number from 1 to 1,024, not 0"),
        (["--steps", "1000000000"], "to 10,000, not 1000000000"),
        (["--seed", "-1"], "--seed is a whole number from 0 to 2,147,483,647, not -1"),
        (["--seed", str(2**63)], "--seed is a whole number from 0 to"),
    ],
)
def test_nothing_is_drawn_in_no_steps(students, monkeypatch, capsys, tmp_path, words, said):
    status, found = run(
        monkeypatch, capsys, "sample", students[PIXELS, "lsd"], *words, "--to", tmp_path / "no.png"
    )
    assert (
        status == 1 and said in found and found.count("fewstep: ") == 1 and not (tmp_path / "no.png").exists()
    )


def test_a_folder_that_is_no_student_is_one_sentence(monkeypatch, capsys, tmp_path):
    status, found = run(monkeypatch, capsys, "sample", tmp_path)
    assert (
        status == 1
        and found
        == f"fewstep: {tmp_path} is no saved student: it holds no model_index.json; "
        "`python -m fewstep save` writes one\n"
    )


def test_pictures_lie_side_by_side_and_large_ones_stay_as_they_are():
    images = [Image.new("RGB", (80, 70), (k, 0, 0)) for k in range(3)]
    whole = commands.sheet(images)
    assert whole.size == (162, 142) and [
        whole.getpixel(at) for at in ((0, 0), (82, 0), (0, 72), (82, 72), (80, 0))
    ] == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (255, 255, 255), (255, 255, 255)]


def test_a_picture_is_drawn_of_prompts(here, students, conditional, monkeypatch, capsys, tmp_path):
    status, said = run(
        monkeypatch, capsys, "save", "--experiment", TEXTS, "--method", "scflow", "--tier", "smoke"
    )
    assert status == 0 and said.endswith(
        f'python -m fewstep sample {tmp_path}/scratch/smoke/students/{TEXTS}-scflow-seed-0 --prompt "..."`\n'
    )
    monkeypatch.chdir(tmp_path)
    asked = ("sample", students[TEXTS, "scflow"], "--seed", "1", "--steps", "2")
    status, said = run(
        monkeypatch, capsys, *asked, "--prompt", "a red circle", "--prompt", "赤い円", "--guidance", "3"
    )
    assert status == 0 and said == (
        f'picture.png shows 2 images: SCFlow of {TEXTS}, N = 4, sampling seed 1, guidance 3, of "a red '
        'circle", "赤い円"\n'
    )
    with Image.open("picture.png") as found:
        assert found.info[commands.KEY].endswith('of "a red circle", "赤い円"')
        pixels = np.asarray(found)
    expected = conditional(["a red circle", "赤い円"], 2, 3.0, generator=seeded(1)).images
    assert pixels.shape == (64, 130, 3) and np.array_equal(
        pixels[:, 66:], np.asarray(expected[1]).repeat(8, 0).repeat(8, 1)
    )
    status, said = run(monkeypatch, capsys, *asked, "--prompt", "a  red\ncircle")
    assert (
        status == 0
        and said
        == f'picture.png shows 16 images: SCFlow of {TEXTS}, N = 2, sampling seed 1, of "a red circle"\n'
    )
    # the guidance of a student's own table is its own, and counted
    status, said = run(
        monkeypatch, capsys, "sample", students[TEXTS, "si"], "--prompt", "", "--count", "3", "--steps", "4"
    )
    assert (
        status == 0
        and said
        == f'picture.png shows 3 images: SI of {TEXTS}, N = 8, sampling seed 0, guidance 1.5, of ""\n'
    )


@pytest.mark.parametrize(
    "student, words, said",
    [
        ((TEXTS, "scflow"), (), 'draws what a text says: give --prompt "a text", as often as you like'),
        (
            (TEXTS, "scflow"),
            ("--prompt", "a", "--prompt", "b", "--count", "3"),
            "2 prompts do not go with 3 images",
        ),
        ((TEXTS, "scflow"), ("--prompt", "a", "--guidance", "-1"), "is a number from 0 on, not -1"),
        ((PIXELS, "lsd"), ("--prompt", "a"), "was trained without text: leave --prompt out"),
        ((PIXELS, "lsd"), ("--guidance", "2"), "was trained without text, and guidance compares texts"),
    ],
)
def test_prompts_that_do_not_go_with_a_student_are_one_sentence(
    students, monkeypatch, capsys, tmp_path, student, words, said
):
    status, found = run(monkeypatch, capsys, "sample", students[student], *words, "--to", tmp_path / "no.png")
    assert (
        status == 1
        and said in found
        and found.count("fewstep: ") == 1 == found.count("\n")
        and not (tmp_path / "no.png").exists()
    )


def test_a_prompt_that_is_cut_is_one_sentence_beside_the_picture(students, monkeypatch, capsys, tmp_path):
    words = (
        "sample",
        students[TEXTS, "scflow"],
        "--prompt",
        "red circle " * 60,
        "--count",
        "1",
        "--to",
        tmp_path / "cut.png",
    )
    monkeypatch.setattr(sys, "argv", ["fewstep", *map(str, words)])
    assert cli.main() == 0 and (tmp_path / "cut.png").is_file()
    assert re.fullmatch(
        r"fewstep: 1 of 1 prompts longer than the 48 tokens that this student reads: \d+ tokens at the end "
        r"were lost\n",
        capsys.readouterr().err,
    )


def test_a_link_stays_a_link_and_the_picture_that_it_leads_to_is_written(
    students, monkeypatch, capsys, tmp_path
):
    (tmp_path / "link.png").symlink_to("real.png")
    for seed in ("0", "1"):
        words = ("sample", students[PIXELS, "lsd"], "--count", "1", "--seed", seed)
        assert run(monkeypatch, capsys, *words, "--to", tmp_path / "link.png")[0] == 0
        with Image.open(tmp_path / "real.png") as found:
            assert f"sampling seed {seed}" in found.info[commands.KEY]
    assert (tmp_path / "link.png").is_symlink() and len(list(tmp_path.iterdir())) == 2
