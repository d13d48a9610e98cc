"""The drawn faces: the same bytes everywhere, smooth edges, every factor seen, no two alike, classes that a
mirror leaves alone.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewstep import data
from fewstep.data import drawn as coverage
from fewstep.data import export, faces
from fewstep.data.drawn import face_drawing
from fewstep.data.drawn.face_drawing import FACTORS, HAIR, render
from fewstep.data.formats import archives

# of the first 64 faces of the file and their classes
DRAWN = "9cbfc7bd157a7d3f42154156d2dd9b90d00e4ce25b15afd6e1a5c1f2b3e009d7"
# what IEEE 754 fixes to the last bit, and what only moves numbers about
EXACT = {
    "abs", "arange", "array", "ascontiguousarray", "empty", "flatnonzero", "float64", "floor", "int64",
    "isin", "maximum", "minimum", "ndarray", "s_",
    "sqrt", "uint8", "where",
}  # fmt: skip
# factors that a mirror turns about; the others it leaves
MIRRORED = ("right", "turn", "tilt", "parting", "gaze_right", "gradient_right", "light_right")


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """The first 1,000 faces of the file and their factors."""
    return faces.draw(1000, faces.SEED)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A root with the two files."""
    root = tmp_path_factory.mktemp("root")
    (root / "data").mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        (root / name).touch()
    for name in faces.FILES:
        (root / name).write_bytes(export.EXPORTS[name]())
    return root


@pytest.fixture
def here(exported, monkeypatch):
    monkeypatch.chdir(exported)
    monkeypatch.delenv(archives.ENVIRONMENT, raising=False)
    return exported


def test_the_same_seed_draws_the_same_bytes(drawn):
    images, factors = drawn
    assert images.shape == (1000, 3, 32, 32) and images.dtype == np.uint8
    assert (
        factors.shape == (1000, len(FACTORS))
        and len(set(FACTORS)) == len(FACTORS) >= 12
        and 0 <= factors.min() < factors.max() < 1
    )
    again, their_factors = faces.draw(70, faces.SEED)
    np.testing.assert_array_equal(again, images[:70], err_msg="the first of many are those of fewer")
    np.testing.assert_array_equal(their_factors, factors[:70])
    assert not np.array_equal(faces.draw(70, faces.SEED + 1)[0], again)
    assert hashlib.sha256(images[:64].tobytes() + faces.classes(factors[:64]).tobytes()).hexdigest() == DRAWN


def test_a_face_does_not_depend_on_those_beside_it(drawn, monkeypatch):
    images, factors = drawn
    for k in range(20):
        np.testing.assert_array_equal(render(factors[k : k + 1])[0], images[k])
    monkeypatch.setattr(face_drawing, "CHUNK", 7)
    np.testing.assert_array_equal(render(factors[:40][::-1]), images[:40][::-1])
    assert render(factors[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("module", [coverage, face_drawing])
def test_only_operations_that_are_exact_everywhere_are_used(module):
    tree = ast.parse(inspect.getsource(module))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
    }
    assert used <= EXACT, f"{used - EXACT} may round differently on another machine"
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Pow, ast.MatMult))]
    methods = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    } - used
    assert methods <= {"astype", "between", "on_front", "transpose"}, (
        f"{methods}: a sum or a mean depends on its order"
    )


def test_edges_are_smooth(drawn):
    # a tenth of a pixel to the right: no level may jump, as it would where a pixel is either covered or not
    moved = drawn[1][:200].copy()
    right = FACTORS.index("right")
    moved[:, right] = np.where(moved[:, right] < 0.5, 1, -1) * 0.1 / 2.4 + moved[:, right]
    change = np.abs(render(moved).astype(int) - drawn[0][:200])
    assert 5 < change.max() <= 64 and np.quantile(change.max((1, 2, 3)), 0.1) >= 5
    # dark hair on a light ground: the outline has pixels of levels between
    factors = np.full((1, len(FACTORS)), 0.5)
    for name, value in {
        "hair_style": 0.7,
        "hair_colour": 0.0,
        "background_shade": 0.999,
        "gradient": 0.5,
        "light": 0.0,
    }.items():
        factors[0, FACTORS.index(name)] = value
    outline = render(factors)[0, 1, 2:11].astype(int)
    assert outline.min() < 60 and outline.max() > 200 and 15 <= ((outline > 60) & (outline < 200)).sum() <= 60


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_changes_the_picture(drawn, name):
    images, factors = drawn
    changed = factors[:200].copy()
    # half a turn leads from some colours of hair to the same one again
    changed[:, FACTORS.index(name)] = (
        changed[:, FACTORS.index(name)] + (0.3 if name == "hair_colour" else 0.5)
    ) % 1
    apart = np.abs(render(changed).astype(int) - images[:200]).max((1, 2, 3))
    # nearly every face shows each of them; only some have long hair, hair at all, glasses, a beard, an open
    # mouth
    part = {
        "hair_volume": 0.7,
        "hair_length": 0.5,
        "parting": 0.7,
        "beard_length": 0.1,
        "beard": 0.3,
    } | dict.fromkeys(("mouth_opening", "glasses_size", "glasses_colour"), 0.35)
    assert (apart >= 4).mean() >= part.get(name, 0.85)


def test_a_mirror_turns_some_factors_about_and_leaves_the_class(drawn):
    images, factors = drawn
    about = factors[:300].copy()
    for name in MIRRORED:
        about[:, FACTORS.index(name)] = 1 - about[:, FACTORS.index(name)]
    # a rounding to the other side of a half is one level
    assert np.abs(render(about).astype(int) - images[:300, :, :, ::-1]).max() <= 1
    np.testing.assert_array_equal(faces.classes(about), faces.classes(factors[:300]))


def nearest(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The root mean square difference, in levels, of each face to its nearest among `others` that is not
    itself.
    """
    a, b = (images.reshape(len(images), -1).astype(np.float32) for images in (some, others))
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    if some is others:
        np.fill_diagonal(squares, np.inf)
    return np.sqrt(np.maximum(squares.min(1), 0) / a.shape[1])


def test_no_two_faces_are_alike_and_unseen_ones_are_no_copies(drawn, here):
    images = drawn[0]
    inside = nearest(images, images)
    assert inside.min() > 8 and np.median(inside) > 20
    outside = nearest(replace(faces.SOURCE).to_uint8(faces.held_out(300, 5)).numpy(), images)
    assert outside.min() > 8 and abs(np.median(outside) / np.median(inside) - 1) < 0.1
    assert images.astype(np.float64).std(0).min() > 20, "every pixel varies"


def test_unseen_faces_are_decided_by_their_seed():
    unseen = faces.held_out(40, 5)
    assert (
        unseen.shape == (40, 3, 32, 32)
        and unseen.dtype == torch.float32
        and -1 <= unseen.min() < unseen.max() <= 1
    )
    assert torch.equal(unseen, faces.held_out(40, 5)) and not torch.equal(unseen, faces.held_out(40, 6))


def test_classes_are_hair_glasses_and_mouth():
    factors = np.zeros((4, len(FACTORS)))
    for k, (hair, glasses, mouth) in enumerate(
        [(0.0, 0.6, 0.6), (0.0, 0.6, 0.4), (0.17, 0.4, 0.6), (0.999, 0.4, 0.4)]
    ):
        factors[k, [FACTORS.index(name) for name in ("hair_style", "glasses", "mouth")]] = (
            hair,
            glasses,
            mouth,
        )
    assert (
        faces.classes(factors).tolist() == [0, 1, 4 * HAIR.index("short") + 2, faces.CLASSES - 1]
        and faces.classes(factors).dtype == np.uint8
    )


def test_the_files_hold_what_is_drawn(here, drawn):
    source = replace(faces.SOURCE)
    assert source.pixels.shape == (8000, 3, 32, 32)
    np.testing.assert_array_equal(source.pixels[:1000], drawn[0])
    np.testing.assert_array_equal(faces.labels()[:1000], faces.classes(drawn[1]))
    assert source.sample(3, torch.Generator().manual_seed(0)).shape == (3, 3, 32, 32) and source.flip
    assert data.load("faces") is faces.SOURCE and "face_drawing" not in data.names()


def test_a_fifth_of_every_class_is_held_out(here):
    train, train_classes, test, test_classes = faces.labelled()
    assert train.shape == (len(train_classes), 3, 32, 32) and test.shape == (len(test_classes), 3, 32, 32)
    assert (
        train.dtype == test.dtype == np.float32
        and train_classes.dtype == np.int64
        and -1 <= train.min() < train.max() <= 1
    )
    every = np.bincount(faces.labels())
    assert (
        len(every) == faces.CLASSES and every.min() > 0.7 * every.mean() and every.max() < 1.3 * every.mean()
    )
    np.testing.assert_array_equal(np.bincount(test_classes), [round(n / 5) for n in every])
    np.testing.assert_array_equal(np.bincount(train_classes) + np.bincount(test_classes), every)
    seen = {image.tobytes() for image in train}
    assert not any(image.tobytes() in seen for image in test)


@pytest.mark.parametrize("name", faces.FILES)
def test_files_that_are_absent_or_damaged_are_named(here, tmp_path, monkeypatch, name):
    for other in ("params.yaml", "dvc.yaml"):
        (tmp_path / other).touch()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    read = faces.pixels if name == faces.FILES[0] else faces.labels
    with pytest.raises(FileNotFoundError, match=f"{name} is not there: run `python -m fewstep data`"):
        read()
    (tmp_path / name).write_bytes((here / name).read_bytes()[:700])
    with pytest.raises(
        ValueError, match=f"{name} is truncated or no .npy file .*: delete it and run `python -m f"
    ):
        read()
    for array in (np.zeros((5, 3), np.uint8), np.load(here / name).astype(np.int16)):
        np.save(tmp_path / name, array)
        with pytest.raises(
            ValueError, match=rf"{name} is not \(8000,.* uint8 from 0 to (255|23): delete it and run"
        ):
            read()
