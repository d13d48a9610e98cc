"""COCO's captions as prompts: the first of each picture, in the order of the published files.

And what is missing or damaged refused.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fewstep.data import coco
from fewstep.data.coco import SETS, Split
from fewstep.data.formats import archives
from fewstep.data.formats.archives import ArchiveError
from fewstep.rehearsal import tiny_archives
from fewstep.storage import stand_in
from fewstep.storage.stand_in import StandIn


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The data set's folder with a rehearsal's files."""
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    tiny_archives.coco(tmp_path / "coco")
    return tmp_path / "coco"


def annotations(home, name: str = "coco2014") -> dict:
    return json.loads((home / SETS[name].annotations).read_text(encoding="utf-8"))


def changed(home, name: str = "coco2014", **parts) -> None:
    (home / SETS[name].annotations).write_text(json.dumps(annotations(home, name) | parts), encoding="utf-8")


def refused(
    sentence: str, error: type[Exception] = ArchiveError, name: str = "coco2014", count: int = 8
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        np.asarray(coco.prompt_set(name, count).pixels)
    assert "\n" not in str(caught.value)


def test_what_was_published():
    assert {
        name: (split.count, split.prompts, split.annotations, split.pictures) for name, split in SETS.items()
    } == {
        "coco2014": (40_504, 30_000, "annotations/captions_val2014.json", "val2014"),
        "coco2017": (5_000, 5_000, "annotations/captions_val2017.json", "val2017"),
    }


@pytest.mark.parametrize("name", SETS)
def test_prompts_are_the_first_captions_in_the_order_of_the_file(home, name):
    written, found = annotations(home, name), coco.prompt_set(name, 8)
    for k, image in enumerate(written["images"]):
        own = min((a for a in written["annotations"] if a["image_id"] == image["id"]), key=lambda a: a["id"])
        assert found.captions[k].text == own["caption"].strip() and "\n" not in found.captions[k].text
        with Image.open(home / SETS[name].pictures / image["file_name"]) as picture:
            shorter = min(picture.size)
            left, top = ((side - shorter) // 2 for side in picture.size)
            square = picture.crop((left, top, left + shorter, top + shorter))
            assert square.size == (512, 512)
            np.testing.assert_array_equal(found.pixels[k], np.asarray(square).transpose(2, 0, 1))
    assert [image["id"] for image in written["images"]] != sorted(
        image["id"] for image in written["images"]
    ), "nor by their numbers"
    assert written["annotations"][0]["id"] > written["annotations"][1]["id"], (
        "the first by its number is not the first in the file"
    )
    few = coco.prompt_set(name, 3)
    assert few.captions == found.captions[:3] and few.pixels.shape == (3, 3, 512, 512)
    np.testing.assert_array_equal(np.asarray(few.pixels), np.asarray(found.pixels[:3]))


def test_no_more_prompts_than_there_are(home, monkeypatch):
    for count in (0, 9):
        refused(
            f"there are 8 prompts 'coco2014', and {count} are asked for: lower `sampling.count`",
            ValueError,
            count=count,
        )
    monkeypatch.setitem(SETS, "coco2014", Split(2014, 40_504, 6))
    refused("there are 6 prompts 'coco2014', and 7 are asked for", ValueError, count=7)


def test_the_number_of_pictures_is_the_published_one(home):
    (home / stand_in.FILE).unlink()
    refused(
        "captions_val2014.json describes 8 pictures instead of 40,504: get COCO-2014's validation .* again"
    )
    refused(
        "captions_val2017.json describes 8 pictures instead of 5,000: get COCO-2017's validation .* again",
        name="coco2017",
    )


def test_missing_files_are_named_with_the_addresses(home):
    names = [image["file_name"] for image in annotations(home)["images"]]
    for name in (names[5], names[2]):
        (home / "val2014" / name).unlink()
    site = "http://images.cocodataset.org"
    addresses = f"{site}/annotations/annotations_trainval2014.zip and {site}/zips/val2014.zip"
    refused(f"val2014/{names[2]} is not in .*coco: get .*{addresses}", FileNotFoundError)
    assert len(coco.prompt_set("coco2014", 2).captions) == 2, "those that are asked for are there"
    (home / "annotations" / "captions_val2014.json").unlink()
    refused(
        f"captions_val2014.json is not in .*coco: get .*{addresses}.*"
        "set FEWSTEP_DATA to the folder that holds 'coco'",
        FileNotFoundError,
    )


def test_damaged_files_are_named(home):
    path, written = home / "annotations" / "captions_val2014.json", annotations(home)
    whole = path.read_bytes()
    for content in (b"", whole[:200], whole[:-1], b"[1, 2]", b'{"images": []}', b"[" * 90_000):
        path.write_bytes(content)
        refused(r"captions_val2014.json is cut short, or no file of COCO's captions \(\w+\):")
    path.write_bytes(b"\xff")
    refused("captions_val2014.json is no text in UTF-8: get COCO-2014")
    path.write_bytes(whole)
    image = written["images"][3]
    changed(home, annotations=[own for own in written["annotations"] if own["image_id"] != image["id"]])
    refused(f"captions_val2014.json has no caption of {image['file_name']}:")
    changed(home, annotations=written["annotations"], images=[{"id": "x", "file_name": "y"}])
    refused("is cut short, or no file of COCO's captions")
    path.write_bytes(whole)
    picture = home / "val2014" / image["file_name"]
    picture.write_bytes(picture.read_bytes()[:3000])
    refused(rf"val2014/{image['file_name']} cannot be decoded \(\w+\):")


def test_a_preflight_refuses_what_is_not_published_and_decodes_nothing(home, monkeypatch):
    monkeypatch.setattr(coco, "decoded", lambda *_: pytest.fail("a picture is decoded"))
    with pytest.raises(
        ArchiveError,
        match="holds a rehearsal's tiny archives .*: put COCO-2017's validation set .* and .*"
        "COCO-2014's validation set .* in their place",
    ):
        coco.check()
    (home / stand_in.FILE).unlink()
    with pytest.raises(ArchiveError, match="captions_val2017.json describes 8 pictures instead of 5,000"):
        coco.check()
    for name, split in list(SETS.items()):
        monkeypatch.setitem(SETS, name, Split(split.year, 8, 8))
    coco.check()
    last = max((home / "val2014").iterdir())
    last.unlink()
    with pytest.raises(FileNotFoundError, match=f"val2014/{last.name} is not in .*coco"):
        coco.check()


def test_a_rehearsals_files_are_always_the_same(home):
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    tiny_archives.coco(home)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before and len(
        before
    ) == 2 + 16 + 1
    assert stand_in.read(home) == StandIn({"coco2017": 8, "coco2014": 8})
