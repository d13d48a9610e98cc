"""The CLIP's training: the loss by hand, runs that are stopped or killed, figures, and the settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fewstep.data import scenes
from fewstep.data.drawn.scene_captions import Caption, holds
from fewstep.evaluation.plots.curves import part_curves
from fewstep.networks import clip, clip_files, tokens
from fewstep.settings import prepared as text_settings
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint
from fewstep.storage.workspace import SCRATCH, Workspace
from fewstep.training import clip as contrastive
from fewstep.training.caption_pairs import UNSEEN, Pairs, pairs_of, unambiguous, unseen_pairs
from fewstep.training.clip import ClipPreparation

SMALL = {
    "kind": "trained",
    "data": "scenes",
    "width": 16,
    "layers": 1,
    "heads": 2,
    "patch": 8,
    "projection": 8,
    "vocabulary": 600,
    "tokens": 12,
    "steps": 12,
    "batch": 8,
    "lr": 4e-3,
}
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
PLACES = {"top left": (0, 0), "top right": (0, 8), "bottom left": (8, 0), "bottom right": (8, 8)}


def squares(noise: int) -> Pairs:
    """Coloured squares of 8x8 in pictures of 16x16, four of each caption, each with a noise of its own."""
    numbers, pictures, captions = np.random.default_rng(noise), [], []
    for colour, levels in COLOURS.items():
        for place, (down, right) in PLACES.items():
            for _ in range(4):
                picture = numbers.integers(0, 60, (3, 16, 16)).astype(np.uint8)
                picture[:, down : down + 8, right : right + 8] = np.array(levels, np.uint8)[:, None, None]
                pictures.append(picture)
                captions.append(f"a {colour} square at the {place}")
    return Pairs(np.stack(pictures), tuple(captions))


def on_squares(patch) -> None:
    """Let the training see squares in the place of scenes, by `patch(module, name, value)`."""
    patch(contrastive, "pairs_of", lambda name, which: squares(0))
    patch(contrastive, "unseen_pairs", lambda name, count: {"held-out pairs": squares(1)[range(0, 64, 4)]})


def a_maker(folder: Path, **changes) -> ClipPreparation:
    return ClipPreparation(
        "tiny",
        Workspace(folder, "smoke"),
        TypeAdapter(text_settings.Clip).validate_python(SMALL | changes),
        "cpu",
    )


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """maker(folder, **changes): an entry of the tier with a folder of its own, trained on squares."""
    on_squares(monkeypatch.setattr)

    def make(folder: str = "one", **changes) -> ClipPreparation:
        monkeypatch.setenv(SCRATCH, str(tmp_path / folder))
        return a_maker(tmp_path, **changes)

    return make


def files(own: ClipPreparation) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in own.folder.iterdir()}


# The loss


def test_the_loss_is_that_of_a_matrix_by_hand():
    images, texts = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(),
        torch.tensor([[0.6, 0.8], [0.0, 1.0]], dtype=torch.float64),
    )
    # logits 2 * [[0.6, 0], [0.8, 1]]; the first row, the first column and so on, each against its diagonal
    e = np.exp
    rows = [-np.log(e(1.2) / (e(1.2) + e(0.0))), -np.log(e(2.0) / (e(1.6) + e(2.0)))]
    columns = [-np.log(e(1.2) / (e(1.2) + e(1.6))), -np.log(e(2.0) / (e(0.0) + e(2.0)))]
    found = contrastive.loss(images, texts, torch.tensor(2.0).double(), torch.tensor([4, 7]))
    assert found.tolist() == pytest.approx(
        [(rows[0] + columns[0]) / 2, (rows[1] + columns[1]) / 2], rel=1e-12
    )


def test_pairs_of_one_caption_are_no_negatives_of_each_other():
    points = torch.nn.functional.normalize(
        torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=2
    )
    groups, scale = torch.tensor([0, 1, 0, 2]), torch.tensor(3.0).double()
    found = contrastive.loss(*points, scale, groups)
    logits = 3 * (points[0] @ points[1].T).numpy()
    for k in range(4):
        # the logits of a pair are its own and those of other captions
        kept = [other for other in range(4) if other == k or groups[other] != groups[k]]
        expected = sum(np.log(np.exp(line[kept]).sum()) - line[k] for line in (logits[k], logits[:, k])) / 2
        assert found[k].item() == pytest.approx(expected, rel=1e-12)
    # where all captions are one, nothing is pushed apart
    images = points[0].requires_grad_()
    total = contrastive.loss(images, points[1], scale, torch.zeros(4, dtype=torch.int64)).sum()
    total.backward()
    assert total.item() == 0 and not images.grad.any()


def test_the_gradient_of_the_loss_is_its_finite_difference():
    generator = torch.Generator().manual_seed(1)
    images, texts = (
        torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    scale = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *given: contrastive.loss(*given, torch.tensor([0, 1, 2, 1, 3])), (images, texts, scale)
    )


def test_retrieval_counts_those_that_are_nearest_and_no_ties():
    cosines = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.5, 0.5], [0.1, 0.6, 0.7]])
    # pictures 0 and 2 find their captions, captions 0 and 2 their pictures, and caption 1 picture 2
    assert contrastive.retrieved(cosines) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert contrastive.retrieved(cosines[:2, :2]) == (1, 1) and contrastive.retrieved(torch.ones(4, 4)) == (
        0,
        0,
    )
    assert contrastive.retrieved(torch.tensor([[0.9, 0.1], [0.95, 0.2]])) == (0.5, 0.5)
    assert contrastive.retrieved(torch.tensor([[0.5, 0.6], [0.1, 0.2]])) == (
        0.5,
        0.5,
    ) and contrastive.retrieved(torch.tensor([[0.3, 0.6], [0.6, 0.5]])) == (0, 0)


# Training


def test_a_training_in_pieces_is_the_training_in_one_go(maker):
    def trained(folder: str, *stops: int, **changes: int) -> tuple[str, bytes]:
        own = maker(folder, **changes)
        for until in (*stops, SMALL["steps"]):
            contrastive.advance(own, until)
        return own.state.name, own.state.read_bytes()

    whole, other = trained("whole"), trained("other", seed=1)
    assert trained("pieces", 1, 5) == whole
    assert other[0] != whole[0] and other[1] != whole[1]


def kill_me(folder: str) -> None:
    """In a process of its own: train, slowly from the second state on, until somebody ends this."""
    on_squares(setattr)
    real, steps = contrastive.loss, []

    def slow(*given):
        steps.append(1)
        time.sleep(60 if len(steps) > 5 else 0)
        return real(*given)

    contrastive.loss = slow
    contrastive.train(a_maker(Path(folder)))


def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(maker, tmp_path, root, monkeypatch):
    whole = maker("whole")
    contrastive.train(whole)
    own = maker("killed")
    script = f"from tests.unit.test_contrastive import kill_me; kill_me({str(tmp_path)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, env=dict(os.environ), stderr=subprocess.DEVNULL
    )
    waiting, state = time.monotonic(), own.state
    # four steps are in the second state
    while not (state.exists() and load_checkpoint(state)[1]["step"] == 4):
        assert process.poll() is None and time.monotonic() - waiting < 300
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(FileNotFoundError, match="described.json is not there"):
        _ = own.folder
    real, calls = contrastive.loss, []
    monkeypatch.setattr(contrastive, "loss", lambda *given: (calls.append(1), real(*given))[1])
    contrastive.train(own)
    assert (
        len(calls) == SMALL["steps"] - 4
        and state.read_bytes() == (tmp_path / "whole" / state.relative_to(tmp_path / "killed")).read_bytes()
    )
    monkeypatch.setenv(SCRATCH, str(tmp_path / "whole"))
    expected = files(whole)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "killed"))
    assert files(own) == expected and set(expected) == {
        clip_files.TRAINED,
        tokens.VOCABULARY,
        tokens.MERGES,
        contrastive.LOG,
        clip_files.DESCRIBED,
    }


def test_a_training_learns_to_tell_squares_apart(maker):
    before = contrastive.train(maker("short", steps=1))["figures"]["held-out pairs"]
    own = maker("long", steps=120, batch=32, lr=2e-3, width=32, projection=16)
    described = contrastive.train(own)
    after = described["figures"]["held-out pairs"]
    assert (
        after["pairs"] == 16
        and after["image to text"] > 0.5
        and after["text to image"] > 0.5 > 0.3 > before["image to text"]
    )
    assert after["score"] > after["score of mismatches"] + 20 and described["score"] == clip.SCORE
    logged = pd.read_csv(own.folder / contrastive.LOG, index_col="step")
    assert len(logged) == 120 and logged["loss"][-20:].mean() < 0.5 * logged["loss"][:20].mean()
    assert logged["temperature"].iloc[-1] == pytest.approx(described["temperature"], rel=1e-5) and logged[
        "temperature"
    ].iloc[0] == pytest.approx(0.07, rel=0.02)
    network, pairs = contrastive.load(own), squares(1)[[0, 20]]
    right, wrong = (
        network.score(pairs.tensor(), pairs.captions),
        network.score(pairs.tensor(), pairs.captions[::-1]),
    )
    assert (right > wrong).all()
    rows = contrastive.retrieval(own)
    assert rows.loc["held-out pairs", "image to text"] == f"{after['image to text']:.1%}"
    assert "trained here, 120 steps of 32 pairs" in str(contrastive.as_table(described)) and "0 of 64" in str(
        contrastive.as_table(described)
    )


def test_the_description_is_json_for_other_stages_and_counts_captions_that_are_cut(maker):
    own = maker(steps=1, tokens=7)
    described = contrastive.train(own)
    assert (
        json.loads((own.folder / clip_files.DESCRIBED).read_text(encoding="utf-8"))
        == described
        == clip_files.read_described(own.folder)
    )
    assert (
        described["captions cut"] == described["pairs"] == 64
        and described["tokens"] == 7
        and described["width"] == 16
    )
    assert described["checksum"] == clip_files.checksum(own.folder / clip_files.TRAINED)


def test_a_damaged_state_and_a_training_that_diverges_are_refused(maker):
    own = maker()
    contrastive.advance(own, 2)
    path = own.state
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is damaged"):
        contrastive.advance(own, 4)
    own = maker("fast")
    fast = replace(own, settings=own.settings.model_copy(update={"lr": 1e30}))
    with pytest.raises(
        FloatingPointError,
        match="the training of the clip tiny diverged: its loss is not finite at step .*; lower its `lr`",
    ):
        contrastive.advance(fast, 12)


def test_another_setting_is_another_training(maker):
    names = {
        maker(**changes).state.name
        for changes in ({}, {"width": 32}, {"tokens": 14}, {"lr": 1e-3}, {"pairs": "all"})
    }
    assert len(names) == 5


def test_a_published_clip_is_measured_and_described(maker, monkeypatch):
    with torch.random.fork_rng(devices=[]):
        own = maker()
        network = contrastive.untrained(own).requires_grad_(False)
    said = {
        "clip": "somebody/some-clip",
        "repository": "somebody/some-clip",
        "towers": "both",
        "checksum": "0",
        "found": "here",
    }
    monkeypatch.setattr(
        clip_files, "published", lambda repository, towers, checksum=None: (network, dict(said))
    )
    settings = {"kind": "published", "repository": "somebody/some-clip"}
    for changes, parts in (({}, set()), ({"data": "scenes"}, {"held-out pairs"})):
        one = ClipPreparation(
            "found", own.workspace, TypeAdapter(text_settings.Clip).validate_python(settings | changes), "cpu"
        )
        described = contrastive.train(one)
        assert set(described["figures"]) == parts and [path.name for path in one.folder.iterdir()] == [
            clip_files.DESCRIBED
        ]
        assert (
            "somebody/some-clip" in str(contrastive.as_table(described)) and contrastive.load(one) is network
        )
        assert part_curves([contrastive.curves(one)], "its curves").numbers == {}, (
            "nothing was trained, and the notebook shows that"
        )


# Pairs


def test_pictures_and_captions_must_go_together():
    pictures = np.zeros((2, 3, 8, 8), np.uint8)
    for given, captions in (
        (pictures, ("a",)),
        (pictures.astype(np.float32), ("a", "b")),
        (pictures[0], ("a", "b", "c")),
        (pictures[:0], ()),
    ):
        with pytest.raises(ValueError, match="captions do not go with .* give uint8 of shape"):
            Pairs(given, captions)


def is_true(caption: Caption, scene: scenes.Scene) -> bool:
    """Whether each thing mentioned is one of the scene's, and every relation holds, tried in every order."""
    if len(caption.mentions) != len(scene.things) or caption.background not in (None, scene.background):
        return False

    def tried(found: list, left: list) -> bool:
        if not left:
            return all(holds(r.kind, found[r.first].place, found[r.second].place) for r in caption.relations)
        said = caption.mentions[len(found)]
        fitting = [
            thing
            for thing in left
            if all(
                getattr(said, name) in (None, getattr(thing, name))
                for name in ("shape", "colour", "size", "place")
            )
        ]
        return any(
            tried([*found, thing], [other for other in left if other is not thing]) for thing in fitting
        )

    return tried([], list(scene.things))


def test_of_pairs_that_are_told_apart_no_caption_is_true_of_another_picture():
    drawn = scenes.prompts(60, 5)
    kept = unambiguous(drawn, 40)
    where = [
        next(k for k, caption in enumerate(drawn.captions) if caption.text == text) for text in kept.captions
    ]
    assert (
        where == sorted(where)
        and len(set(where)) == len(where)
        and np.array_equal(kept.pictures, drawn.pixels[where])
    )
    for i in where:
        assert [j for j in where if is_true(drawn.captions[i], drawn.scenes[j])] == [i]
    # those that were left out before the last one would have been found twice
    for i in set(range(where[-1])) - set(where):
        before = [j for j in where if j < i]
        assert any(
            is_true(drawn.captions[i], drawn.scenes[j]) or is_true(drawn.captions[j], drawn.scenes[i])
            for j in before
        )
    assert len(unambiguous(drawn, 3).captions) == 3


def test_scenes_are_trained_on_and_judged_by_others():
    training, everything, unseen = (
        pairs_of("scenes", "training"),
        pairs_of("scenes", "all"),
        unseen_pairs("scenes", 30),
    )
    assert (
        np.array_equal(training.pictures, scenes.pictures())
        and training.captions[7] == scenes.captions()[7].text
    )
    assert len(everything.captions) == len(training.captions) and not np.array_equal(
        everything.pictures, training.pictures
    )
    assert set(unseen) == set(UNSEEN) and all(len(own.captions) == 30 for own in unseen.values())


# Settings


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"data": "faces"},
            "a data set that draws pictures with captions, and 'faces' is none; there are scenes",
        ),
        ({"data": "laion"}, "'laion' is none; there are scenes"),
        ({"heads": 3}, "`width` 16 must be divisible by the 3 heads of `heads`"),
        ({"patch": 5}, "the pictures of 'scenes', 32 x 32, do not fall into squares of `patch` 5"),
        ({"vocabulary": 513}, "greater than or equal to 514"),
        ({"tokens": 2}, "greater than or equal to 3"),
        ({"pairs": "some"}, "'training' or 'all'"),
        ({"depth": 3}, "Extra inputs are not permitted"),
        ({"kind": "other"}, "'trained', 'published'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(text_settings.Clip).validate_python(SMALL | changes)


def test_a_published_one_is_named_and_a_text_encoder_retrieves_nothing():
    read = TypeAdapter(text_settings.Clip).validate_python
    assert read({"kind": "published", "repository": "openai/clip-vit-large-patch14"}).towers == "both"
    with pytest.raises(ValidationError, match="a text encoder alone retrieves no pictures"):
        read({"kind": "published", "repository": "a/b", "towers": "text", "data": "scenes"})
    for wrong in (
        {"repository": "a/.."},
        {"repository": "a/b", "width": 3},
        {"repository": "a/b", "data": "faces"},
    ):
        with pytest.raises(ValidationError):
            read({"kind": "published"} | wrong)
