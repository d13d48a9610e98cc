"""Captioned pictures: read where they lie in shards, decoded only when they are looked at.

And what is damaged refused.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep import data
from fewstep.data import coco, laion
from fewstep.data.formats import archives, pictures
from fewstep.data.formats.archives import ArchiveError
from fewstep.evaluation import prompts
from fewstep.rehearsal import preflight, tiny_archives
from fewstep.storage import stand_in
from fewstep.storage.stand_in import StandIn

SIDE = laion.SIDE


def photograph(seed: int, size: tuple[int, int] = (SIDE, SIDE), mode: str = "RGB") -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR).convert(mode)


def file(picture: Image.Image, kind: str = "PNG") -> bytes:
    """A picture's file; PNG, so that it comes back as it was."""
    content = io.BytesIO()
    picture.save(content, kind)
    return content.getvalue()


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).transpose(2, 0, 1)


def shard(path, members: dict[str, bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def pairs(first: int, count: int) -> dict[str, bytes]:
    """The members of a shard: pictures `first`... with captions."""
    found = {}
    for k in range(first, first + count):
        found |= {
            f"{k:09}.png": file(photograph(k)),
            f"{k:09}.txt": f"Picture {k}".encode(),
            f"{k:09}.json": b'{"caption": "never read"}',
        }
    return found


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of the data set."""
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    (tmp_path / "laion").mkdir()
    return tmp_path / "laion"


@pytest.fixture
def shards(home):
    """Two shards, of three pictures and of two."""
    shard(home / "00000.tar", pairs(0, 3))
    shard(home / "00001.tar", pairs(3, 2))
    return home


def noted(home) -> list:
    return sorted((home / laion.INDEX).glob("*"))


def refused(home, sentence: str, error: type[Exception] = ArchiveError) -> None:
    before = noted(home)
    with pytest.raises(error, match=sentence) as caught:
        laion.captions()
    assert "\n" not in str(caught.value) and noted(home) == before, "nothing is noted of what is refused"


# An array that holds nothing ----------------------------------------------------------------------------


@pytest.fixture
def seen():
    """Nine pictures of one level each, and the rows that were decoded."""
    looked = []

    def decode(row):
        looked.append(row)
        return np.full((3, 4, 4), row, np.uint8)

    return pictures.Pictures(decode, np.arange(9), 4), looked


def test_pictures_are_indexed_like_an_array_and_decoded_only_when_looked_at(seen):
    lazy, looked = seen
    whole = np.asarray(lazy)
    np.testing.assert_array_equal(
        whole, np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 4), np.uint8)
    )
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size, lazy.nbytes, len(lazy)) == (
        whole.shape,
        np.uint8,
        4,
        whole.size,
        whole.nbytes,
        9,
    )
    looked.clear()
    for index in (
        slice(2, 5),
        slice(None, None, 4),
        slice(7, 64),
        slice(0, 0),
        np.array([3, 3, -1]),
        [1, 0],
        np.arange(9) > 6,
    ):
        part = lazy[index]
        assert part.shape == whole[index].shape and not looked
        np.testing.assert_array_equal(np.array(part), whole[index])
        assert sorted(looked) == sorted(whole[index][:, 0, 0, 0].tolist()), "no picture but those asked for"
        looked.clear()
    np.testing.assert_array_equal(np.ascontiguousarray(lazy[1:8][::3]), whole[1:8][::3])
    np.testing.assert_array_equal(lazy[-2], whole[-2])
    assert [int(one[0, 0, 0]) for one in lazy] == list(range(9))
    for wrong in (9, (1, 2), np.zeros((2, 2), int)):
        with pytest.raises(IndexError):
            lazy[wrong]
    with pytest.raises(ValueError, match="there is no array to share"):
        np.asarray(lazy, copy=False)
    assert np.asarray(lazy[:2], dtype=np.float32).dtype == np.float32


def test_the_centred_square_is_shrunk_as_the_whole_picture_would_be():
    wide = photograph(1, (1280, 1024))
    found = pictures.decoded(file(wide), SIDE)
    assert (
        found.shape == (3, SIDE, SIDE)
        and found.dtype == np.uint8
        and found.flags.c_contiguous
        and found.flags.writeable
    )
    # half of 1280 x 1024 is 640 x 512, of which 64 columns fall away on either side
    np.testing.assert_array_equal(
        found, levels(wide.resize((640, 512), Image.Resampling.BICUBIC).crop((64, 0, 576, 512)))
    )
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    np.testing.assert_array_equal(
        pictures.decoded(file(tall), SIDE),
        levels(tall.resize((512, 640), Image.Resampling.BICUBIC).crop((0, 64, 512, 576))),
    )
    own = photograph(2)
    np.testing.assert_array_equal(
        pictures.decoded(file(own), SIDE), levels(own), err_msg="one of that size is taken as it is"
    )


def test_what_shrinks_is_antialiased():
    checks = (np.indices((2048, 2048)).sum(0) % 2 * 255).astype(np.uint8)
    found = pictures.decoded(file(Image.fromarray(np.stack([checks] * 3, -1))), SIDE)
    assert found.min() >= 126 and found.max() <= 129


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_any_mode_becomes_rgb(mode):
    own = photograph(3, (600, 512), mode)
    found = pictures.decoded(file(own, "TIFF"), SIDE)
    np.testing.assert_array_equal(found, levels(own.convert("RGB").crop((44, 0, 556, 512))))


# Shards -------------------------------------------------------------------------------------------------


def test_pictures_and_captions_of_shards_have_one_index(shards):
    found = laion.pixels()
    assert found.shape == (5, 3, SIDE, SIDE) and laion.captions() == tuple(f"Picture {k}" for k in range(5))
    for k in (0, 2, 3, 4):
        np.testing.assert_array_equal(found[k], levels(photograph(k)))
    np.testing.assert_array_equal(np.array(found[1:4]), np.stack([levels(photograph(k)) for k in (1, 2, 3)]))
    assert sorted(p.name for p in shards.iterdir()) == [laion.INDEX, "00000.tar", "00001.tar"], (
        "nothing is unpacked"
    )


def test_shards_are_gone_through_once_and_again_when_they_change(shards, monkeypatch):
    laion.captions()
    (first,) = noted(shards)
    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the shards are gone through again"))
        assert laion.captions()[4] == "Picture 4"
        np.testing.assert_array_equal(laion.pixels()[4], levels(photograph(4)))
    shard(shards / "00002.tar", pairs(7, 1))
    assert laion.captions()[5] == "Picture 7"
    (second,) = noted(shards)
    assert second != first
    shard(shards / "00002.tar", pairs(7, 1) | {"000000007.txt": b"Picture 9"})
    assert laion.captions()[5] == "Picture 9", "a file of the same size is another one"
    (second,) = noted(shards)
    for damage in (b"", second.read_bytes()[:300], b"PK"):
        second.write_bytes(damage)
        assert laion.captions()[3] == "Picture 3", "a damaged note is made again"


def test_captions_come_from_texts_and_pictures_of_any_kind(home):
    members = {
        "a.jpg": file(photograph(0), "JPEG"),
        "a.txt": "  Café \n by the\tsea ".encode(),
        "b.txt": b"from b",
        "b.webp": file(photograph(1), "WEBP"),
        "c/d.JPEG": file(photograph(2), "JPEG"),
        "c/d.txt": b"in a folder",
    }
    shard(home / "part" / "00000.tar", members | {"notes.md": b"x"})
    assert laion.captions() == ("Café by the sea", "from b", "in a folder")
    assert np.asarray(laion.pixels()).shape == (3, 3, SIDE, SIDE)


def test_pictures_without_a_caption_are_passed_over(home):
    members = pairs(0, 4) | {"000000002.txt": b" \n"}
    del members["000000001.txt"]
    shard(home / "00000.tar", members)
    assert laion.captions() == ("Picture 0", "Picture 3")
    np.testing.assert_array_equal(laion.pixels()[1], levels(photograph(3)))


def test_a_picture_that_cannot_be_decoded_is_named_with_its_cure(shards):
    members = pairs(3, 2)
    members["000000003.png"] = members["000000003.png"][:2000]
    members["000000004.png"] = b"no picture"
    shard(shards / "00001.tar", members)
    found = laion.pixels()
    assert len(found) == 5
    for k in (3, 4):
        sentence = rf"laion/00001.tar/00000000{k}.png cannot be decoded \(\w+\): get the shard again, or take"
        with pytest.raises(ArchiveError, match=sentence) as caught:
            np.asarray(found[k : k + 1])
        assert "\n" not in str(caught.value)


def test_a_shard_cut_short_is_refused_wherever_it_is_cut(shards):
    path = shards / "00001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        end = archive.offset
    inside = members[2].offset_data + 7
    # before anything, in a header, in a picture, between members, where the last ends, inside what marks the
    # end
    for size in (
        0,
        100,
        members[0].offset_data + 50,
        members[1].offset,
        members[1].offset + 30,
        inside,
        end,
        end + 512,
        end + 1023,
    ):
        path.write_bytes(whole[:size])
        refused(shards, r"00001.tar is cut short, or ")
    path.write_bytes(whole[: end + 1024])
    assert len(laion.captions()) == 5, "two blocks of zeros are a whole end"
    damaged = bytearray(whole)
    damaged[members[3].offset : members[3].offset + 512] = b"x" * 512
    path.write_bytes(bytes(damaged))
    refused(
        shards,
        rf"00001.tar is cut short, or damaged after {members[3].offset:,} of its {len(whole):,} bytes:",
    )
    path.write_text("<html>not found</html>", encoding="utf-8")
    refused(shards, r"00001.tar is cut short, or no tar archive \(\w+\): get pictures of LAION")


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"000000000.txt": b"\xff\xfe"}, "holds a 000000000.txt that is no caption in UTF-8:"),
        ({"000000000.jpg": b"x"}, "holds two pictures with one caption, called 000000000:"),
    ],
)
def test_broken_captions_are_named(home, changed, sentence):
    shard(home / "00000.tar", pairs(0, 1) | changed)
    refused(home, f"00000.tar {sentence}")


def test_no_pictures_and_no_captions_are_one_sentence(home):
    refused(
        home,
        "a shard such as 00000.tar is not in .*laion: "
        "get pictures of LAION-Aesthetics .*img2dataset.*FEWSTEP_DATA",
        FileNotFoundError,
    )
    shard(
        home / "00000.tar", {name: content for name, content in pairs(0, 2).items() if name.endswith("png")}
    )
    refused(home, "laion holds 2 pictures and no caption of any: get")


# The data set -------------------------------------------------------------------------------------------


def test_it_is_a_data_set_of_captioned_pictures_that_is_fetched():
    assert (
        data.load("laion") is laion.SOURCE and not laion.SOURCE.flip and laion.SOURCE.shape == (3, 512, 512)
    )
    assert data.offers("laion", "captions")
    assert data.offers("laion", "check") and preflight.images("laion") == 2_000_000
    assert not {"captioned", "pictures", "coco"} & set(data.names())


def test_drawing_decodes_what_is_drawn_and_no_more(shards, monkeypatch):
    looked = []
    monkeypatch.setattr(
        laion, "decoded", lambda content, side: looked.append(1) or pictures.decoded(content, side)
    )
    source = replace(laion.SOURCE)
    drawn = source.sample(2, torch.Generator().manual_seed(0))
    assert (
        drawn.shape == (2, 3, SIDE, SIDE)
        and drawn.dtype == torch.float32
        and len(looked) == 2
        and -1 <= drawn.min() < drawn.max() <= 1
    )
    which = torch.randint(5, (2,), generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(
        source.to_uint8(drawn).numpy(), np.stack([levels(photograph(int(k))) for k in which])
    )
    every = np.stack([levels(photograph(k)) for k in range(5)]).astype(np.float64)
    assert source.scale == pytest.approx(every.std() / 127.5, abs=1e-12)


def test_a_rehearsals_archive_is_read_as_the_published_one_and_refused_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    folder = tmp_path / "laion"
    tiny_archives.laion(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    tiny_archives.laion(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "always the same"
    assert set(before) == {"00000.tar", "00001.tar", stand_in.FILE}
    with tarfile.open(folder / "00000.tar") as archive:
        assert archive.getnames()[:4] == ["000000000.jpg", "000000000.txt", "000000000.json", "000000001.jpg"]
    captions, found = laion.captions(), laion.pixels()
    assert (
        len(captions) == len(set(captions)) == len(found) == 40
        and captions[0] == "A boat by a lake, picture 0"
    )
    assert len({image.tobytes() for image in np.asarray(found[::4])}) == 10
    with pytest.raises(
        ArchiveError,
        match="laion holds a rehearsal's tiny archives .*: put pictures of LAION.* in their place",
    ):
        laion.check()
    stand_in.mark(folder, StandIn({"train": 41}))
    with pytest.raises(
        ArchiveError, match=r"laion holds 40 captioned pictures instead of 41: .*rehearsal.json says"
    ):
        laion.captions()


def test_a_preflight_names_all_that_is_missing_and_decodes_nothing(shards, monkeypatch):
    monkeypatch.setattr(laion, "decoded", lambda *_: pytest.fail("a picture is decoded"))
    with pytest.raises(
        ArchiveError,
        match="^[^;]*captions_val2017.json is not in [^;]*coco: get COCO-2017.s[^;]*; and "
        "[^;]*captions_val2014.json is not in [^;]*coco: get COCO-2014.s[^;]*$",
    ):
        laion.check()
    monkeypatch.setattr(coco, "check", lambda: None)
    laion.check()
    (shards / "00001.tar").write_bytes((shards / "00001.tar").read_bytes()[:-9000])
    with pytest.raises(ArchiveError, match="00001.tar is cut short"):
        laion.check()
    for path in shards.glob("*.tar"):
        path.unlink()
    monkeypatch.undo()
    monkeypatch.setenv(archives.ENVIRONMENT, str(shards.parent))
    with pytest.raises(
        ArchiveError,
        match="is not in .*laion: get pictures of LAION.*; and .*captions_val2017.json is not in",
    ) as caught:
        laion.check()
    assert "\n" not in str(caught.value)


def test_its_prompts_are_cocos(tmp_path, monkeypatch):
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    tiny_archives.coco(tmp_path / "coco")
    found = prompts.load("laion", "coco2014", 5)
    assert len(found.captions) == len(found.pixels) == 5 and all(
        isinstance(caption.text, str) for caption in found.captions
    )
    with pytest.raises(ValueError, match="has no prompts 'coco'; there are coco2017, coco2014"):
        prompts.load("laion", "coco", 5)
