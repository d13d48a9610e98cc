"""One way to open a picture and one to read a text, whoever reads them; and which files count."""

import io

import numpy as np
import pytest
from PIL import Image

from fewstep.data import coco, laion
from fewstep.data.formats import archives, pictures
from fewstep.data.formats.archives import Archive, ArchiveError
from fewstep.rehearsal import tiny_archives

SIDE = 16
BOM = b"\xef\xbb\xbf"


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


@pytest.fixture
def quarters():
    """A picture whose corners differ: red, green, blue, white."""
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    return Image.fromarray(colours.repeat(SIDE // 2, 0).repeat(SIDE // 2, 1))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    (tmp_path / "laion").mkdir()
    return tmp_path / "laion"


# How a picture looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind):
    grey = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    found = pictures.decoded(saved(Image.fromarray(grey), kind), SIDE)
    expected = np.rint(grey / 257).astype(np.uint8)
    np.testing.assert_array_equal(found, np.stack([expected] * 3))
    assert found.min() == 0 and found.max() == 255 and 120 < np.median(found) < 136


@pytest.mark.parametrize("turn, back", [
    (2, Image.Transpose.FLIP_LEFT_RIGHT), (3, Image.Transpose.ROTATE_180),
    (4, Image.Transpose.FLIP_TOP_BOTTOM), (5, Image.Transpose.TRANSPOSE),
    (6, Image.Transpose.ROTATE_90), (7, Image.Transpose.TRANSVERSE), (8, Image.Transpose.ROTATE_270),
])  # fmt: skip
def test_a_picture_is_turned_as_its_exif_says(quarters, turn, back):
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = quarters.transpose(back)
    for kind in ("PNG", "WEBP"):
        content = saved(stored, kind, exif=exif.tobytes(), lossless=True)
        np.testing.assert_array_equal(pictures.decoded(content, SIDE), levels(quarters), err_msg=kind)


def test_damaged_exif_says_nothing_of_the_orientation(quarters):
    content = saved(quarters, "PNG", exif=b"Exif\x00\x00no header at all")
    np.testing.assert_array_equal(pictures.decoded(content, SIDE), levels(quarters))


def test_what_is_transparent_shows_white_and_not_its_hidden_colour(quarters):
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[: SIDE // 2] = 0
    alpha[SIDE // 2 :, : SIDE // 2] = 128
    seen = pictures.decoded(saved(Image.merge("RGBA", [*quarters.split(), Image.fromarray(alpha)])), SIDE)
    assert (seen[:, : SIDE // 2] == 255).all(), "red and green are hidden"
    assert seen[:, -1, 0].tolist() == [127, 127, 255] and seen[:, -1, -1].tolist() == [255, 255, 255]
    grey = Image.merge("LA", [Image.new("L", (4, 4), 9), Image.new("L", (4, 4), 0)])
    assert (pictures.decoded(saved(grey), 4) == 255).all()


def test_one_colour_of_a_palette_or_of_grey_that_is_transparent_shows_white():
    palette = Image.fromarray(np.array([[0, 1]] * 2, np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    seen = pictures.decoded(saved(palette, transparency=0), 2)
    assert seen[:, 0, 0].tolist() == [255] * 3 and seen[:, 0, 1].tolist() == [40, 50, 60]
    seen = pictures.decoded(saved(Image.fromarray(np.array([[7, 8]] * 2, np.uint8)), transparency=7), 2)
    assert seen[0].tolist() == [[255, 8]] * 2
    deep = np.array([[0, 65535], [257 * 9, 257 * 10]], np.uint16)
    seen = pictures.decoded(saved(Image.fromarray(deep), transparency=257 * 9), 2)
    assert seen[0].tolist() == [[0, 255], [255, 10]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_have_no_white(mode):
    with pytest.raises(
        ValueError, match=f"is of mode {mode}, whose white is not known, and not of 8 or 16 bits"
    ):
        pictures.decoded(saved(Image.new(mode, (4, 4)), "TIFF"), 4)


def test_all_readers_open_a_picture_alike(home, tmp_path, monkeypatch):
    """Of captioned pictures, of COCO's, and of folders, which take RGB alone: turned as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.fromarray(
        tiny_archives.levels(1, (32, 48), 3)[0].numpy().transpose(1, 2, 0).astype(np.uint8)
    )
    content = saved(upright.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes())
    (home / "0.png").write_bytes(content)
    with archives_of(home) as shard:
        shard("0.png", content)
        shard("0.txt", b"x")
    side = pictures.decoded(saved(upright), laion.SIDE)
    np.testing.assert_array_equal(laion.pixels()[0], side)
    tiny_archives.coco(tmp_path / "coco")
    for path in (tmp_path / "coco" / "val2014").iterdir():
        path.write_bytes(content)
    np.testing.assert_array_equal(coco.prompt_set("coco2014", 1).pixels[0], side)
    found = pictures.ImageFolder(Archive(str(home), "x"), 1, (32, 48), 32, 32)
    np.testing.assert_array_equal(found.pixels()[0], levels(upright.crop((0, 8, 32, 40))))


# How a text is read -----------------------------------------------------------------------------------------


def test_a_byte_order_mark_stays_in_no_caption(home):
    with archives_of(home) as shard:
        shard("0.png", saved(Image.new("RGB", (8, 8))))
        shard("0.txt", BOM + b"Of a shard\r\n")
    assert laion.captions() == ("Of a shard",)


class archives_of:
    """A shard that is written member by member."""

    def __init__(self, folder):
        self.path, self.members = folder / "00000.tar", {}

    def __enter__(self):
        return self.members.__setitem__

    def __exit__(self, *_):
        self.path.write_bytes(tiny_archives.tar(self.members))


# Which files count ------------------------------------------------------------------------------------------


def test_hidden_companions_do_not_count_and_linked_folders_are_refused(home):
    def read() -> int:
        return len(pictures.ImageFolder(Archive(str(home), "x"), 3, (8, 8), 8, 8).pixels())

    picture = saved(Image.new("RGB", (8, 8), 9))
    for k in range(3):
        (home / "a").mkdir(exist_ok=True)
        (home / "a" / f"{k:03}.png").write_bytes(picture)
    for name in (
        "a/._000.png",
        "__MACOSX/a/000.png",
        ".ipynb_checkpoints/000-checkpoint.png",
        ".trash/1.png",
    ):
        (home / name).parent.mkdir(exist_ok=True, parents=True)
        (home / name).write_bytes(b"a companion")
    assert read() == 3
    (home / "a" / "003.png").symlink_to(home / "a" / "000.png")
    with pytest.raises(ArchiveError, match="holds 4 images instead of 3, from a/000.png to a/003.png"):
        read()
    (home / "up").symlink_to(home.parent)
    with pytest.raises(ArchiveError, match="laion/up is a linked folder: link .*laion itself in its place"):
        read()


def test_hidden_companions_of_shards_and_batches_do_not_count(home):
    (home / "._00000.tar").write_bytes(b"a companion")
    with archives_of(home) as shard:
        shard("0.png", saved(Image.new("RGB", (8, 8))))
        shard("0.txt", b"One")
        shard("._0.png", b"a companion")
        shard("__MACOSX/0.png", b"a companion")
    assert laion.captions() == ("One",)
