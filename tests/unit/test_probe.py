"""The probe reads scenes back that it has not seen, from its seed alone, whichever pictures come together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewstep.data import scenes
from fewstep.data.drawn.scene_drawing import (
    BACKGROUNDS,
    COLOURS,
    JITTERS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    render,
)
from fewstep.data.images import to_signed
from fewstep.metrics.attributes import accuracies, judge
from fewstep.networks import probe as module
from fewstep.networks.probe import PARTS, Probe, read, targets, train_probe
from fewstep.training.precision import one_thread


def signed(pixels: np.ndarray) -> np.ndarray:
    return to_signed(torch.from_numpy(pixels)).numpy()


@pytest.fixture(scope="module")
def probe() -> Probe:
    found = scenes.all_pairs(4000, 0)
    with one_thread():
        return train_probe(signed(found.pixels), found.scenes, steps=700, seed=0, batch=16)


def test_it_reads_scenes_that_it_has_not_seen(probe):
    for found in (scenes.prompts(500, 1), scenes.validation(500, 1)):
        seen = read(probe, signed(found.pixels))
        right = accuracies(*judge(found.captions, seen))
        assert set(right) == {
            "shape",
            "colour",
            "size",
            "place",
            "relation",
            "background",
            "number",
            "caption",
        }
        assert (
            min(right.values()) >= 0.94 and min(right["colour"], right["place"], right["background"]) >= 0.99
        ), right
        assert np.mean([scene == true for scene, true in zip(seen, found.scenes)]) >= 0.9


def test_pictures_of_other_scenes_are_not_what_captions_say(probe):
    """The same pictures in another order: what chance gives, and no more."""
    found = scenes.validation(500, 1)
    right = accuracies(*judge(found.captions, read(probe, signed(np.roll(found.pixels, 1, 0)))))
    assert right["caption"] < 0.03 and right["background"] < 0.4 and right["shape"] < 0.5


def test_what_it_reads_does_not_depend_on_the_pictures_beside(probe):
    images = signed(scenes.validation(module.TOGETHER + 30, 2).pixels)
    images += np.random.default_rng(0).normal(0, 0.5, images.shape).astype(np.float32)
    together = read(probe, images)
    assert (
        len(together) == len(images)
        and read(probe, images[7:40]) == together[7:40]
        and read(probe, torch.from_numpy(images[-3:])) == together[-3:]
    )
    assert read(probe, images[:0]) == ()


def test_the_seed_decides_and_nothing_else():
    found = scenes.all_pairs(100, 0)
    images = signed(found.pixels)

    def trained(seed: int) -> Probe:
        torch.rand(1)
        state = torch.get_rng_state()
        network = train_probe(images, found.scenes, steps=3, seed=seed, batch=16)
        assert torch.equal(torch.get_rng_state(), state), "torch's own generator is left as it was"
        return network

    with one_thread():
        first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert (
        not torch.equal(first.convolutions[0].weight, other.convolutions[0].weight)
        and not first.reader[1].weight.requires_grad
    )
    ticks = []
    train_probe(images, found.scenes, steps=41, seed=0, batch=4, tick=ticks.append)
    assert ticks == [0, 20, 40]


def test_targets_are_by_place_and_say_nothing_of_what_is_not_there():
    found = Scene(2, (Thing(1, SHAPES.index("ring"), 3, 1), Thing(4, 0, 0, 0)))
    nothing = [0, -1, -1]
    assert targets([found]).tolist() == [[nothing, [5, 3, 1], nothing, nothing, [1, 0, 0], [2, 2, 2]]]
    assert PARTS == (1 + len(SHAPES), len(COLOURS), len(SIZES))


def test_logits_are_read_as_the_targets_are_written():
    """A network whose logits are the targets' own reads the scenes themselves."""
    found = scenes.all_pairs(80, 3).scenes

    class PromptReference(torch.nn.Module):
        def forward(self, x):
            assert len(x) == module.TOGETHER, (
                "sums over another number of pictures may be taken in another order"
            )
            wanted = torch.cat([targets(found), targets(found[:1]).expand(len(x) - len(found), -1, -1)])
            one_hot = [
                torch.nn.functional.one_hot(wanted[:, :-1, k].clamp(min=0), part).float()
                for k, part in enumerate(PARTS)
            ]
            return *one_hot, torch.nn.functional.one_hot(wanted[:, -1, 0], len(BACKGROUNDS)).float()

    assert read(PromptReference(), np.zeros((80, 3, 32, 32), np.float32)) == found


def test_each_place_is_read_where_it_is():
    """What is drawn at one corner moves the reading of that place and of the centre that overlaps with it,
    little of the others.
    """
    torch.manual_seed(0)
    network = Probe()
    assert [tuple(logits.shape) for logits in network(torch.zeros(2, 3, 32, 32))] == [
        (2, len(PLACES), part) for part in PARTS
    ] + [(2, len(BACKGROUNDS))]
    first, last = slice(0, 8), slice(24, 32)
    for place, (rows, columns) in enumerate(((first, first), (first, last), (last, first), (last, last))):
        images = torch.zeros(2, 3, 32, 32)
        images[1, :, rows, columns] = 1
        moved = (network(images)[0][1] - network(images)[0][0]).abs().amax(1)
        assert [k for k in range(len(PLACES)) if moved[k] > 1e-6] in ([place], [place, len(PLACES) - 1])


def test_sizes_and_backgrounds_are_learnt_too(probe):
    """One picture of each size on each background at each place, without jitter."""
    found = [
        Scene(background, (Thing(place, 0, 0, size),))
        for background in range(4)
        for place in range(5)
        for size in range(2)
    ]
    seen = read(probe, signed(render(found, np.full((len(found), JITTERS), 0.5))))
    assert [s.background for s in seen] == [s.background for s in found]
    assert np.mean([replace(s, background=0) == replace(t, background=0) for s, t in zip(seen, found)]) >= 0.9
