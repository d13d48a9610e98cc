"""The small classifier learns the digits, from its seed alone; and torchvision can be imported."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits

from fewstep.data.images import split
from fewstep.networks.classifier import FEATURES, _shifted, accuracy, train_classifier

DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.images[:, None] / 8 - 1).astype(np.float32), DIGITS.target


def test_it_tells_digits_apart_that_it_has_not_seen():
    train, test = split(LABELS, 1 / 3, seed=0)
    classifier = train_classifier(IMAGES[train], LABELS[train], steps=600, seed=0)
    assert accuracy(classifier, IMAGES[test], LABELS[test]) >= 0.97
    assert classifier.features(torch.from_numpy(IMAGES[:5])).shape == (5, FEATURES)


def test_the_seed_decides_and_nothing_else():
    first, again, other = (
        train_classifier(IMAGES[:200], LABELS[:200], steps=3, seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not torch.equal(first.out.weight, other.out.weight)


def test_shifts_move_an_image_by_a_pixel_at_most():
    images = torch.zeros(400, 1, 5, 5)
    images[:, 0, 2, 2] = 1
    moved = _shifted(images, torch.Generator().manual_seed(0))
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}


def test_torchvision_and_what_needs_it_can_be_imported():
    """In a process of its own: an import cannot be undone."""
    code = (
        "from fewstep.networks import torchvision_operators as m; "
        "import torchvision, diffusers.models.unets.unet_2d; assert m.declare() is False"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
