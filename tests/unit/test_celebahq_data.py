"""CelebA-HQ: read from a tiny LMDB in the published layout, written here; and damaged ones refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import lmdb
import numpy as np
import pytest
import torch

from fewstep import data
from fewstep.data import celebahq
from fewstep.data.celebahq import BYTES, SIDE
from fewstep.data.formats import archives
from fewstep.data.formats.archives import ArchiveError
from fewstep.rehearsal import preflight, tiny_archives
from fewstep.storage import stand_in
from fewstep.storage.stand_in import StandIn

COUNT = 12


def photographs(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Levels as the LMDB holds them: (count, 256, 256, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def write(folder, changed=None, count: int = COUNT):
    """An LMDB as NVAE's script writes it (a folder, one transaction, decimal keys).

    `changed` replaces or removes (None) values by key.
    """
    values = {str(k): image.tobytes() for k, image in enumerate(photographs(count))} | (changed or {})
    database = lmdb.open(str(folder / "train.lmdb"), map_size=2**24)
    with database.begin(write=True) as transaction:
        for key, value in values.items():
            if value is not None:
                transaction.put(key.encode(), value)
    database.close()
    return folder / "train.lmdb" / "data.mdb"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of the data set, which says that it holds COUNT images."""
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    folder = tmp_path / "celebahq"
    folder.mkdir()
    stand_in.mark(folder, StandIn({"train": COUNT}))
    return folder


def refused(home, sentence: str, error: type[Exception] = ArchiveError) -> None:
    with pytest.raises(error, match=sentence) as caught:
        celebahq.pixels()
    assert "\n" not in str(caught.value) and not list(home.glob("*fewstep*")), "nothing is left behind"


def test_the_published_database_is_read_in_the_order_of_its_numbers(home):
    path = write(home)
    images = celebahq.pixels()
    assert (
        isinstance(images, np.memmap)
        and not images.flags.writeable
        and images.shape == (COUNT, 3, SIDE, SIDE)
    )
    # in the database "10" stands before "2"
    np.testing.assert_array_equal(images, photographs().transpose(0, 3, 1, 2))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(celebahq, "Database", lambda _: pytest.fail("the database is read again"))
        np.testing.assert_array_equal(celebahq.pixels(), images, err_msg="what was decoded is kept")
    path.unlink()
    write(home, {"3": photographs(seed=1)[0].tobytes()})
    assert not np.array_equal(celebahq.pixels()[3], images[3]), "a changed database is read again"
    assert sorted(p.name for p in path.parent.iterdir()) == ["data.mdb", "lock.mdb"]


def test_a_database_cut_short_is_refused_before_it_is_read(home):
    path = write(home)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 20_000, 5000):
        path.write_bytes(whole[:size])
        refused(home, rf"data.mdb is truncated \({size:,} of {len(whole):,} bytes\):")
    for broken in (whole[:10], b"", b"no database" * 9000):
        path.write_bytes(broken)
        refused(home, r"data.mdb is truncated or no LMDB \(nothing (says so )?at byte [\d,]+\):")
    path.unlink()
    refused(home, "train.lmdb/data.mdb is not in .*celebahq: get CelebA-HQ", FileNotFoundError)


@pytest.mark.parametrize("changed, sentence", [
    ({"7": None}, "holds 11 images instead of 12:"),
    ({"12": b"x"}, "holds 13 images instead of 12:"),
    ({"7": None, "07": bytes(BYTES)}, "lacks the key '7':"),
    ({"7": bytes(100)}, "holds 100 bytes under the key '7' instead of 196,608, a raw RGB image of 256x256:"),
    ({"7": bytes(SIDE * SIDE)}, "holds 65,536 bytes under the key '7' instead of 196,608"),
    ({"7": bytes(BYTES)}, "holds nothing but zeros under the key '7':"),
])  # fmt: skip
def test_a_database_with_other_images_is_refused(home, changed, sentence):
    write(home, changed)
    refused(home, f"data.mdb {sentence}")


def test_a_damaged_page_is_refused(home):
    path = write(home)
    content = bytearray(path.read_bytes())
    database = lmdb.open(str(path.parent), readonly=True, lock=False)
    page, pages = database.stat()["psize"], database.info()["last_pgno"] + 1
    database.close()
    for k in range(2, pages):
        # a leaf says so in its flags (after its number, 8 bytes, and 2 more); the long values' pages do not
        if content[k * page + 10] & 2 and int.from_bytes(content[k * page : k * page + 8], "little") == k:
            content[k * page + 10 : k * page + 12] = bytes(2)
    path.write_bytes(content)
    refused(home, r"data.mdb is damaged inside \(page \d+\):")


def test_a_preflight_refuses_what_is_not_published_and_decodes_nothing(home, monkeypatch):
    with pytest.raises(ArchiveError, match="holds a rehearsal's tiny archives .*: put CelebA-HQ's 27,000"):
        celebahq.check()
    (home / stand_in.FILE).unlink()
    with pytest.raises(
        FileNotFoundError,
        match="train.lmdb/data.mdb is not in .*: get CelebA-HQ's 27,000 .*https://github.com/NVlabs/NVAE",
    ):
        celebahq.check()
    path = write(home)
    with pytest.raises(
        ArchiveError, match="data.mdb holds 12 images instead of 27,000: get CelebA-HQ's 27,000 .* again"
    ):
        celebahq.check()
    monkeypatch.setattr(celebahq, "COUNT", COUNT)
    celebahq.check()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="data.mdb is truncated .*: get CelebA-HQ"):
        celebahq.check()
    assert not list(home.glob("fewstep-*"))


def test_a_rehearsals_database_is_read_as_the_published_one(tmp_path, monkeypatch):
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    holds = tiny_archives.ARCHIVES["celebahq"](tmp_path / "celebahq")
    path = tmp_path / "celebahq" / "train.lmdb" / "data.mdb"
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    stand_in.mark(tmp_path / "celebahq", holds)
    images = celebahq.pixels()
    assert (
        images.shape == (tiny_archives.COUNT, 3, SIDE, SIDE)
        and len({image.tobytes() for image in images}) == tiny_archives.COUNT
    )
    tiny_archives.ARCHIVES["celebahq"](tmp_path / "celebahq")
    assert hashlib.md5(path.read_bytes()).hexdigest() == md5, "always the same"
    drawn = replace(celebahq.SOURCE).sample(3, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 3, SIDE, SIDE) and -1 <= drawn.min() < drawn.max() <= 1


def test_it_is_a_data_set_that_is_fetched():
    assert (
        data.load("celebahq") is celebahq.SOURCE
        and celebahq.SOURCE.flip
        and data.offers("celebahq", "check")
        and preflight.images("celebahq") == 27_000
    )
