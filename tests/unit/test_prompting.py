"""Captions beside latents, prompts beside samples, and metrics of pictures: files, resumption, refusals."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewstep.data import latents, scenes
from fewstep.evaluation import measure, measures, prompts
from fewstep.evaluation.metric import Cell, Comparison, Prompts
from fewstep.flows.conditioning import Conditions
from fewstep.metrics.attributes import ATTRIBUTES
from fewstep.networks import clip_files
from fewstep.training import captions, features
from fewstep.training import clip as contrastive

TOKENS, WIDTH = 6, 4


class Reader:
    """A text tower that writes a text's length into every number, and an image tower that sees nothing."""

    length, width = TOKENS, WIDTH
    tokenizer = SimpleNamespace(
        encode=lambda texts: (
            None,
            torch.tensor([[k < len(text.split()) for k in range(TOKENS)] for text in texts]),
        ),
        dropped=lambda texts: [len(text.split()) > TOKENS for text in texts],
    )

    def __init__(self):
        self.seen: list[str] = []

    def text(self, texts):
        self.seen += texts
        hidden = torch.tensor([[[float(len(text))] * WIDTH] * TOKENS for text in texts])
        return Conditions(hidden, self.tokenizer.encode(texts)[1])

    def score(self, images, texts):
        return torch.full((len(images),), 25.0)


def count_held_out(found) -> int:
    """How many of the scenes hold a pair of colour and shape that training never shows."""
    return sum(bool(set(one.pairs) & set(scenes.HELD_OUT)) for one in found)


@pytest.fixture
def reader(monkeypatch, tmp_path):
    own = Reader()
    monkeypatch.setattr(
        contrastive.ClipPreparation,
        "open",
        classmethod(lambda cls, tier, name: SimpleNamespace(folder=tmp_path)),
    )
    monkeypatch.setattr(contrastive, "load", lambda maker: own)
    monkeypatch.setattr(
        clip_files,
        "read_described",
        lambda folder: {"checksum": "ab" * 32, "clip": "a reader", "score": "a score"},
    )
    return own


@pytest.fixture
def maker(tmp_path):
    def write(name):
        path = tmp_path / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    settings = SimpleNamespace(data="scenes", clip="scenes")
    return SimpleNamespace(
        name="scenes",
        settings=settings,
        source=scenes.SOURCE,
        workspace=SimpleNamespace(tier="laptop", write=write),
    )


def test_every_caption_is_read_and_the_empty_one_stands_last(reader, maker, tmp_path):
    read = captions.encode_captions(maker, 20, tmp_path / "partial.npy")
    texts = [caption.text for caption in scenes.captions()[:20]] + [""]
    assert read.description == {
        "clip": "ab" * 32,
        "tokens": TOKENS,
        "width": WIDTH,
        "cut": sum(len(text.split()) > TOKENS for text in texts),
    }
    read.finish(tmp_path)
    hidden, masks = (np.load(tmp_path / name) for name in (latents.TEXTS, latents.MASKS))
    assert hidden.shape == (21, TOKENS, WIDTH) and masks.shape == (21, TOKENS) and masks.dtype == bool
    assert np.array_equal(hidden[:, 0, 0], [len(text) for text in texts])
    assert not list(tmp_path.glob("partial*")), "what is finished leaves nothing behind"


def test_reading_goes_on_from_where_it_was_stopped(reader, maker, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "BLOCK", 8)
    whole = captions.encode_captions(maker, 20, tmp_path / "whole.npy")
    read, reader.seen = list(reader.seen), []

    class Stopped(Exception):
        pass

    def stop(texts):
        if reader.seen:
            raise Stopped
        return Reader.text(reader, texts)

    reader.text = stop
    with pytest.raises(Stopped):
        captions.encode_captions(maker, 20, tmp_path / "pieces.npy")
    del reader.text
    pieces = captions.encode_captions(maker, 20, tmp_path / "pieces.npy")
    assert reader.seen == read, "what was read before the stop is not read again"
    assert (
        pieces.description == whole.description
        and torch.equal(pieces.masks, whole.masks)
        and np.array_equal(pieces.hidden.values, whole.hidden.values)
    )


def test_a_tokenizer_has_some_texts_at_a_time(reader, maker, tmp_path, monkeypatch):
    """Millions together would take more memory than the text tower."""
    whole, asked, own = captions.encode_captions(maker, 20, tmp_path / "whole.npy"), [], Reader.tokenizer
    monkeypatch.setattr(captions, "BLOCK", 8)
    counting = SimpleNamespace(
        encode=lambda texts: asked.append(len(texts)) or own.encode(texts),
        dropped=lambda texts: asked.append(len(texts)) or own.dropped(texts),
    )
    monkeypatch.setattr(reader, "tokenizer", counting, raising=False)
    read = captions.encode_captions(maker, 20, tmp_path / "pieces.npy")
    assert (
        max(asked) == 8
        and torch.equal(read.masks, whole.masks)
        and read.description == whole.description
        and read.description["cut"] > 0
    )


def test_other_texts_and_another_reader_are_another_mark(reader, maker, monkeypatch):
    first = captions.checksums(maker, 5)
    assert captions.checksums(maker, 5) == first != captions.checksums(maker, 6)
    said = [*scenes.captions()[:4], SimpleNamespace(text="a red square")]
    with monkeypatch.context() as patch:
        patch.setattr(scenes, "captions", lambda: said)
        assert captions.checksums(maker, 5) != first
    monkeypatch.setattr(clip_files, "read_described", lambda folder: {"checksum": "cd" * 32})
    assert captions.checksums(maker, 5) != first


def test_mirrored_images_and_too_few_captions_are_refused(reader, maker, tmp_path):
    with pytest.raises(ValueError, match="12000 captions for 12001 images"):
        captions.encode_captions(maker, 12_001, tmp_path / "partial.npy")
    maker.source = SimpleNamespace(flip=True)
    with pytest.raises(ValueError, match="drawn mirrored, and captions say left and right"):
        captions.encode_captions(maker, 5, tmp_path / "partial.npy")


def test_prompts_are_those_of_their_set_and_come_back_from_their_files(reader, tmp_path):
    experiment = SimpleNamespace(
        tier="laptop",
        latents=SimpleNamespace(data="scenes", clip="scenes"),
        settings=SimpleNamespace(sampling=SimpleNamespace(prompts="coco2017", count=7)),
    )
    folder = prompts.prepare(experiment, tmp_path / "samples")
    own = scenes.prompts(7, 2017)
    assert prompts.texts(folder) == [caption.text for caption in own.captions] == reader.seen
    told = prompts.conditions(folder)
    assert (
        told.hidden[:, 0, 0].tolist() == [len(caption.text) for caption in own.captions]
        and told.mask.dtype == torch.bool
    )
    other = prompts.load("scenes", "coco2014", 7)
    assert [caption.text for caption in other.captions] != prompts.texts(folder)
    assert count_held_out(own.scenes) == count_held_out(other.scenes) == 7
    for data_name, name, message in (
        ("scenes", "coco2015", "has no prompts 'coco2015'; there are coco2017, coco2014"),
        ("digits", "coco2017", "there are none"),
    ):
        with pytest.raises(ValueError, match=message):
            prompts.load(data_name, name, 7)


def test_pictures_of_their_own_prompts_are_right_and_those_of_others_are_not(reader, tmp_path, monkeypatch):
    own, other = scenes.prompts(30, 2017), scenes.prompts(30, 2014)
    drawn = {
        pixels.tobytes(): scene for both in (own, other) for pixels, scene in zip(both.pixels, both.scenes)
    }
    monkeypatch.setattr(features, "load_probe", lambda path: None)

    def read(probe, images: torch.Tensor) -> tuple:
        levels = ((images + 1) * 127.5).round().to(torch.uint8).numpy()
        return tuple(drawn[pixels.tobytes()] for pixels in levels)

    monkeypatch.setattr(measures, "read", read)
    monkeypatch.setattr(measures, "_clip", lambda folder, device: reader)
    against = Comparison(
        SimpleNamespace(), prompts=Prompts("scenes", "coco2017", tmp_path, tmp_path / "probe")
    )

    def values(images: np.ndarray) -> dict[str, float]:
        np.save(tmp_path / "images.npy", images)
        cell = Cell(tmp_path / "images.npy", None, 0)
        return {
            row["metric"]: row["value"] for row in measure._measure(cell, against, ["clip", "attributes"])
        }

    found = values(own.pixels)
    assert found.pop("CLIP score") == 25.0
    assert set(found) == {"attribute accuracy", *measures.NAMES.values()}
    assert set(found.values()) == {1.0}
    wrong = values(other.pixels)
    assert wrong["attribute accuracy"] < 0.7 and wrong["caption accuracy"] < 0.2
    assert set(measures.NAMES) <= {*ATTRIBUTES, "caption"}


def test_every_metric_of_texts_has_its_protocol(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "probe_name", lambda path: "a probe")
    metrics = SimpleNamespace(
        measures=["clip", "attributes"], bins=None, w2_samples=2, reference=None, of_images=True
    )
    settings = SimpleNamespace(sampling=SimpleNamespace(count=600, seeds=[0]), metrics=metrics)
    own = Prompts("scenes", "coco2017", tmp_path, tmp_path / "probe")
    found = measure.protocols_by_name(Comparison(settings, prompts=own))
    assert set(found) == {"CLIP score", "attribute accuracy", *measures.NAMES.values()}
    assert {protocol.split for protocol in found.values()} == {"the first 600 prompts coco2017 of scenes"}
    metrics.measures = ["clip"]
    assert set(measure.protocols_by_name(Comparison(settings, prompts=own))) == {"CLIP score"}


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda folder: (folder / latents.TEXTS).unlink(), "texts.npy is not there"),
        (
            lambda folder: (folder / latents.MASKS).write_bytes(b"no array"),
            "masks.npy is truncated or no .npy file",
        ),
        (lambda folder: np.save(folder / latents.TEXTS, np.zeros((3, 2, 2), np.float32)), "instead of"),
    ],
)
def test_damaged_texts_are_named(tmp_path, break_it, message):
    np.save(tmp_path / latents.TEXTS, np.zeros((21, TOKENS, WIDTH), np.float32))
    np.save(tmp_path / latents.MASKS, np.zeros((21, TOKENS), bool))
    np.save(tmp_path / latents.MOMENTS, np.ones((20, 8, 2, 2), np.float32))
    said = {
        "latents": [4, 2, 2],
        "shape": [3, 4, 4],
        "scale": 1.0,
        "top": 255,
        "count": 20,
        "mirrored": False,
    }
    said |= {
        "mirrored": False,
        "captions": {"tokens": TOKENS, "width": WIDTH},
        "autoencoder": "a",
        "checksum": "b",
    }
    for folder, own in ((tmp_path, said), (tmp_path / latents.AUTOENCODER, {"checksum": "a"})):
        folder.mkdir(exist_ok=True)
        (folder / "described.json").write_text(json.dumps(own), encoding="utf-8")
    latents.opened(tmp_path)
    break_it(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        latents.opened(tmp_path)
