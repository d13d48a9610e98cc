"""Images as large as text-to-image's: drawn, decoded, measured and shown some at a time, and never more than
is asked for.
"""

from __future__ import annotations

import pickle
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fewstep import data
from fewstep.evaluation import measures, sample, speed
from fewstep.evaluation.plots.images import DPI, SIDE, data_strip, interpolations, reduced, rows_of_captions
from fewstep.metrics import features
from fewstep.metrics.features import Extractor


class Decoder:
    """Latents (4, 2, 2) whose images are their first three channels, and how many it was ever asked for
    together.
    """

    shape, scale, top = (4, 2, 2), 1.0, 255

    def __init__(self):
        self.asked: list[int] = []

    def to_uint8(self, z: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(z))
        return ((z[:, :3] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@pytest.fixture
def decoder(monkeypatch) -> Decoder:
    """A decoder in the place of every data set."""
    own = Decoder()
    monkeypatch.setattr(data, "load", lambda *_: own)
    return own


@pytest.mark.parametrize(
    "dimensions, captioned, device, count",
    [
        (1, False, "cuda", 500),
        (3, False, "cpu", 125),
        (3, True, "cpu", 125),
        (3, False, "cuda", 1000),
        (3, True, "cuda", 64),
    ],
)
def test_fewer_samples_with_captions_go_through_a_gpu_together(dimensions, captioned, device, count):
    assert sample.together(dimensions, captioned, device) == count


def test_samples_are_decoded_some_at_a_time(decoder, smoke, tmp_path, monkeypatch):
    drawn = torch.randn(sample.IMAGES + 20, 4, 2, 2)
    monkeypatch.setattr(sample, "load_flow_map", lambda *_: None)
    monkeypatch.setattr(sample, "noise", lambda *_: drawn)
    monkeypatch.setattr(sample, "sample", lambda *_: sample.samplers.Samples(drawn, 2))
    row = sample.draw_one(
        smoke.experiments["fmm-cifar10"],
        sample.Draw("si", "si", "euler", 2, 0, 0),
        tmp_path / "w",
        tmp_path,
        "cpu",
        None,
    )
    assert decoder.asked == [sample.IMAGES, 20]
    np.testing.assert_array_equal(np.load(tmp_path / row["file"]), Decoder().to_uint8(drawn).numpy())


def test_noise_is_made_some_at_a_time_and_features_are_the_same(decoder, monkeypatch):
    count = measures.BATCH + 44
    made = []
    monkeypatch.setattr(
        measures,
        "checks",
        lambda values, noise, sizes: (
            made.append(noise(len(values)))
            or pd.DataFrame({"check": ["noise"], "samples": [count], "fid": [1.0]})
        ),
    )
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    reference = SimpleNamespace(values=np.zeros((count, 5)), extractor=Extractor("any", network))
    experiment = SimpleNamespace(source=decoder, compute=SimpleNamespace(device="cpu"))
    measures.fid_self_checks(experiment, reference)
    assert decoder.asked == [measures.BATCH, 44]
    drawn = torch.randn(count, 4, 2, 2, generator=torch.Generator().manual_seed(measures.NOISE_SEED))
    np.testing.assert_array_equal(
        made[0], features.extract(Decoder().to_uint8(drawn).numpy(), reference.extractor).values
    )


@pytest.fixture
def experiment(tmp_path, decoder, smoke) -> SimpleNamespace:
    """An experiment with an array of twenty images of each row that it draws."""
    experiment = smoke.experiments["scflow-coco2017"]
    sampling = experiment.sampling.model_copy(update={"count": 20})
    experiment, rows = experiment.model_copy(update={"sampling": sampling}), []
    for draw in sample.plan(experiment):
        levels = np.arange(20, dtype=np.uint8)[:, None, None, None]
        np.save(tmp_path / draw.name, levels * np.ones((1, 3, 2, 2), np.uint8))
        rows.append(asdict(draw) | {"nfe": draw.steps, "count": 20, "file": draw.name})
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    return SimpleNamespace(
        name="scflow-coco2017",
        settings=experiment,
        source=decoder,
        workspace=SimpleNamespace(read=lambda _: tmp_path),
    )


def test_pictures_read_no_more_images_than_they_show(experiment):
    own = experiment.settings.tables[experiment.name]
    for panels in (sample.panels(experiment), sample.panels(experiment, own, sample.SHOWN_STEPS)):
        shown = [images for row in panels.values() for images in row.values()]
        assert shown and {images.shape for images in shown} == {(8, 3, 2, 2)}
    whole = sample.points(experiment, "si", 4)
    assert (
        whole.shape == (20, 3, 2, 2)
        and whole.dtype == np.float32
        and whole[19, 0, 0, 0] == np.float32(19 / 127.5 - 1)
    )
    np.testing.assert_array_equal(sample.points(experiment, "si", 4, 3), whole[:3])


def test_the_network_that_is_timed_is_the_teachers_with_and_without_samples_of_its(experiment):
    assert speed._teacher(experiment.settings) == "si"
    metrics = experiment.settings.metrics.model_copy(update={"reference": None})
    methods = dict(reversed(experiment.settings.methods.items()))
    assert (
        speed._teacher(experiment.settings.model_copy(update={"metrics": metrics, "methods": methods}))
        == "si"
    )


def test_the_resizing_of_features_travels_to_another_process():
    own = features.channel_means()
    image = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    again = pickle.loads(pickle.dumps(own))
    assert again.resizer(image).shape == (299, 299, 3)
    np.testing.assert_array_equal(again.resizer(image), own.resizer(image))


# Pictures


def test_large_images_are_reduced_and_small_ones_are_not():
    large = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4 * SIDE, 4 * SIDE)).astype(np.float32)
    found = reduced(large)
    assert found.shape == (2, 3, SIDE, SIDE) and np.allclose(
        found[1, 2, 5, 7], large[1, 2, 20:24, 28:32].mean(), atol=1e-6
    )
    small = large[..., :SIDE, :SIDE]
    assert (
        reduced(small) is small
        and reduced(large[..., : 3 * SIDE // 2, : 3 * SIDE // 2]).shape[-1] == 3 * SIDE // 4
    )
    assert reduced(large[..., : SIDE + 1, : SIDE + 1]).shape[-1] == SIDE + 1, (
        "no square of pixels divides them"
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda images: interpolations({"row": images}, "title"),
        lambda images: data_strip(images, "title", across=2),
    ],
)
def test_a_sheet_of_large_images_stays_small(draw):
    large = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4 * SIDE, 4 * SIDE)).astype(np.float32)
    picture = draw(large)
    assert picture.figure.get_figwidth() * DPI < 2.1 * SIDE
    quadrant = next(iter(picture.numbers.values()))[0]
    assert quadrant == round(float(large[0, :, : 2 * SIDE, : 2 * SIDE].mean()), 2), (
        "numbers are those of the whole images"
    )


def test_large_images_beside_captions_are_reduced_too():
    large = np.zeros((1, 3, 4 * SIDE, 4 * SIDE), np.float32)
    picture = rows_of_captions({"SCFlow": {"N = 1": large}}, ["a fox"], "title")
    assert np.asarray(picture.figure.axes[0].images[0].get_array()).shape == (SIDE, SIDE, 3)
