"""Published archives of every format, as they come: damaged, odd, or with something else in their place."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from fewstep import data
from fewstep.data import celebahq, cifar10, coco, digits, imagenet32, laion, latents, patches
from fewstep.data.formats.archives import ENVIRONMENT, Archive
from fewstep.data.formats.pictures import ImageFolder
from fewstep.rehearsal import tiny_archives
from fewstep.storage import stand_in
from fewstep.storage.stand_in import StandIn

from .case import Case

Edit = Callable[[Path], object]


def _png(size: tuple[int, int] = (30, 40), mode: str = "RGB", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, kind)
    return file.getvalue()


def _in(folder: Path, name: str, read: Callable[[], object]) -> object:
    """`read`, with the data set `name` in `folder` and the laptop's files below it."""
    with mock.patch.dict(os.environ, {ENVIRONMENT: str(folder)}):
        here = Path.cwd()
        os.chdir(folder)
        try:
            return read()
        finally:
            os.chdir(here)


# Folders of images ----------------------------------------------------------------------------------------


def _images(folder: Path) -> None:
    for k in range(3):
        (folder / f"{k:03}.png").write_bytes(_png())


def _read_images(folder: Path) -> object:
    return ImageFolder(Archive(str(folder), "tiny images"), 3, (30, 40), 20, 8).pixels()


def _linked(folder: Path) -> None:
    (folder / "000.png").unlink()
    (folder / "000.png").symlink_to(folder / "gone.png")


def _as_folder(folder: Path) -> None:
    (folder / "000.png").unlink()
    (folder / "000.png").mkdir()


def _pipe(folder: Path) -> None:
    (folder / "001.png").unlink()
    os.mkfifo(folder / "001.png")


IMAGES: list[tuple[str, Edit, str]] = [
    ("a stray copy", lambda f: (f / "copy of 1.png").write_bytes(_png()),
     r"4 images instead of 3, from 000.png to copy of 1.png, and only 1 named as copy of 1.png is"),
    ("one too few", lambda f: (f / "002.png").unlink(), "2 images instead of 3, from 000.png to 001.png: ge"),
    ("a folder called as an image", _as_folder, "2 images instead of 3, from 001.png to 002.png"),
    ("a link to nothing", _linked, "000.png is a link to nothing: put the file there, or remove it"),
    ("a pipe", _pipe, "001.png is a pipe, socket or device and no file"),
    ("an empty image", lambda f: (f / "001.png").write_bytes(b""), r"001.png cannot be decoded \(Unidentif"),
    ("half an image", lambda f: (f / "001.png").write_bytes(_png()[:70]), r"001.png cannot be decoded \(\w+"),
    ("a page of HTML", lambda f: (f / "001.png").write_bytes(b"<html>"), "001.png cannot be decoded"),
    ("grey", lambda f: (f / "001.png").write_bytes(_png(mode="L")), r"001.png is L of size \(30, 40\) inste"),
    ("transparency", lambda f: (f / "001.png").write_bytes(_png(mode="RGBA")), "001.png is RGBA of size"),
    ("another size", lambda f: (f / "001.png").write_bytes(_png((31, 40))), r"001.png is RGB of size \(31, "),
    ("a linked folder", lambda f: (f / "up").symlink_to(f.parent), "up is a linked folder: link .* itself"),
]  # fmt: skip

# Captioned pictures ---------------------------------------------------------------------------------------


def _tar(*members: tuple[str, bytes], edit: Callable[[tarfile.TarInfo], object] = lambda info: None) -> Edit:
    def write(folder: Path) -> None:
        with tarfile.open(folder / "00000.tar", "w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                edit(info)
                archive.addfile(info, io.BytesIO(content))

    return write


def _sparse_caption(folder: Path) -> None:
    """A shard whose caption has three gigabytes of nothing."""
    info, path = tarfile.TarInfo("0.txt"), folder / "00000.tar"
    info.size = 3 * 2**30
    with open(path, "wb") as file:
        file.write(info.tobuf())
        file.truncate(info.size + 4096)


def _negative(folder: Path) -> None:
    """A member of -1,024 bytes, at which a reader that skips it goes back for ever."""
    header = bytearray(tarfile.TarInfo("0.bin").tobuf())
    header[124:136] = b"\xff" * 10 + (2**16 - 1024).to_bytes(2, "big")
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(header)[0]  # type: ignore[attr-defined]
    (folder / "00000.tar").write_bytes(bytes(header) + bytes(4096))


def _indexed(edit: Edit) -> Edit:
    """A shard whose captions have been read, which is noted beside it."""
    return lambda folder: (edit(folder), _in(folder.parent, folder.name, laion.captions))


def _captions_read(folder: Path) -> object:
    with np.errstate(all="raise"):
        return _in(folder.parent, folder.name, lambda: [laion.captions(), np.asarray(laion.pixels())])


PICTURE = ("0.png", _png())
CAPTIONED: list[tuple[str, Edit, str]] = [
    ("a pipe", lambda f: os.mkfifo(f / "00000.tar"), "00000.tar is a pipe, socket or device and no file"),
    ("a sparse caption", _sparse_caption, "0.txt that is no whole file of 1,048,576 bytes at most"),
    ("a member of negative size", _negative, "00000.tar (holds a 0.bin of -1,024 bytes|is cut short)"),
    ("a picture by a link", _tar(("0.txt", b"x"), ("0.png", b""), edit=lambda i: setattr(
        i, "type", tarfile.SYMTYPE if i.name == "0.png" else i.type)), "0.png that is no whole file of"),
    ("two captions of one picture", _tar(PICTURE, ("0.txt", b"x"), ("0.txt", b"y")), "two captions called 0"),
    ("two pictures of one caption", _tar(PICTURE, ("0.jpg", b"x")), "two pictures with one caption, called"),
    ("a caption in UTF-16", _tar(PICTURE, ("0.txt", b"\xff\xfex\x00")), "0.txt that is no caption in UTF-8"),
    ("nothing but companions", _tar(("._0.png", b"x"), ("._0.txt", b"x")), "0 pictures and no caption of an"),
    ("a compressed shard", lambda f: (f / "0.tar").write_bytes(b"\x1f\x8b" * 600), "0.tar is cut short, or "),
    ("a shard that is a folder", lambda f: (f / "0.tar").mkdir(), "a shard such as 00000.tar is not in"),
    ("a picture of 32 bits", _indexed(_tar(("0.png", _png(mode="F", kind="TIFF")), ("0.txt", b"x"))),
     "00000.tar/0.png is of mode F, whose white is not known.*: get the shard again, or take"),
    ("a broken picture", _indexed(_tar(("0.png", b"x"), ("0.txt", b"x"))),
     r"00000.tar/0.png cannot be decoded \(\w+\): get the shard again, or take"),
]  # fmt: skip

# Annotations, databases, batches, and what stages made ----------------------------------------------------


def _coco(folder: Path) -> None:
    tiny_archives.coco(folder / "coco")


def _annotated(**changed: Callable[[list], list]) -> Edit:
    def write(folder: Path) -> None:
        _coco(folder)
        path = folder / "coco" / coco.SETS["coco2014"].annotations
        found = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(
            json.dumps(found | {name: edit(found[name]) for name, edit in changed.items()}), "utf-8"
        )

    return write


def _annotations(edit: Edit) -> Edit:
    def write(folder: Path) -> None:
        _coco(folder)
        edit(folder / "coco" / coco.SETS["coco2014"].annotations)

    return write


def _made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _first_picture(folder: Path) -> Path:
    return min((folder / "coco" / "val2014").iterdir())


COCO: list[tuple[str, Edit, str]] = [
    ("one picture twice", _annotated(images=lambda own: own[:7] + own[:1]), "describes 7 pictures instead"),
    ("endless numbers", _annotated(images=lambda own: [{"id": float("inf"), "file_name": "x"}]), r"\(Overfl"),
    ("no end", _annotations(lambda p: p.write_bytes(b"[" * 90_000)), r"no file of COCO's captions \(Recursi"),
    ("Latin-1", _annotations(lambda p: p.write_bytes(b"caf\xe9")), "val2014.json is no text in UTF-8: get C"),
    ("a folder", _annotations(_made_a_folder), "captions_val2014.json is a folder and no file: .*coco/reh"),
    ("a picture that is a pipe", lambda f: (_coco(f), _piped(_first_picture(f))), "jpg is a pipe, socket or"),
    ("a picture that is a folder", lambda f: (_coco(f), _made_a_folder(_first_picture(f))), "jpg is a folde"),
]  # fmt: skip


def _database(edit: Callable[[bytearray], object]) -> Edit:
    def write(folder: Path) -> None:
        home = folder / "celebahq"
        stand_in.mark(home, tiny_archives.ARCHIVES["celebahq"](home))
        path = home / celebahq.FILE
        content = bytearray(path.read_bytes())
        edit(content)
        path.write_bytes(content)

    return write


def _put(content: bytearray, start: int, values: bytes) -> None:
    content[start : start + len(values)] = values


def _leaf(content: bytearray) -> int:
    """Where the first leaf begins."""
    pages = range(2 * 4096, len(content), 4096)
    return next(
        p for p in pages if content[p + 10] == 2 and content[p : p + 8] == (p // 4096).to_bytes(8, "little")
    )


DATABASE: list[tuple[str, Callable[[bytearray], object], str]] = [
    ("another magic number", lambda c: _put(c, 16, b"\0\0\0\0"), "no LMDB"),
    ("pages of no size", lambda c: _put(c, 40, b"\3\0\0\0"), r"no LMDB \(pages of 3 bytes\)"),
    ("a root beyond the file", lambda c: [_put(c, k * 4096 + 136, b"\xf0" * 8) for k in (0, 1)], "trunc"),
    ("pointers beyond a page", lambda c: _put(c, _leaf(c) + 12, b"\xff\xff"), r"damaged inside \("),
    ("a node beyond its page", lambda c: _put(c, _leaf(c) + 16, b"\xfe\x0f"), r"damaged inside \(|lacks the"),
    ("a leaf that is none", lambda c: _put(c, _leaf(c) + 10, b"\0\0"), r"damaged inside \(page"),
    ("half of it", lambda c: c.__delitem__(slice(len(c) // 2, None)), r"data.mdb is truncated \([\d,]+ of "),
]  # fmt: skip


def _imagenet(folder: Path) -> Path:
    stand_in.mark(folder / "imagenet32", StandIn({"train": 5}))
    return folder / "imagenet32" / "train_data_batch_1.npz"


def _batch(edit: Edit) -> Edit:
    return lambda folder: edit(_imagenet(folder))


def _savez(**arrays: np.ndarray) -> Edit:
    return _batch(lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]


BATCHES: list[tuple[str, Edit, str]] = [
    ("a folder", _batch(lambda p: p.mkdir()), "is not in|batch_1.npz is a folder"),
    ("a pipe", _batch(os.mkfifo), "train_data_batch_1.npz is a pipe, socket or device and no file"),
    ("no archive", _batch(lambda p: p.write_bytes(b"x")), r"batch_1.npz is truncated or no npz file .*\(\w+"),
    ("no data", _savez(labels=np.arange(2)), r"no npz file with `data` \(KeyE"),
    ("objects", _savez(data=np.array([{}, {}]), labels=np.arange(2)), r"no npz file .* \(ValueError\)"),
    ("floats", _savez(data=np.zeros((3, 3072)), labels=np.arange(3)), "holds float64 data .* instead of uin"),
    ("too few images", _savez(data=np.zeros((3, 3072), np.uint8), labels=np.arange(3)), "3 images instead"),
]  # fmt: skip


def _array(edit: Edit, name: str = digits.FILES[0]) -> Edit:
    def write(folder: Path) -> None:
        (folder / "data").mkdir()
        for own in ("params.yaml", "dvc.yaml"):
            (folder / own).touch()
        edit(folder / name)

    return write


def _npy(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HUGE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }\n"
ARRAYS: list[tuple[str, Edit, str]] = [
    ("nothing", _array(lambda p: None), "digits.npy is not there: run `python -m fewstep data`"),
    ("a folder", _array(lambda p: p.mkdir()), "digits.npy is a folder and no file: delete it and run"),
    ("a pipe", _array(os.mkfifo), "digits.npy is a pipe, socket or device and no file: delete"),
    ("a terabyte", _array(lambda p: p.write_bytes(_npy(HUGE))), r"digits.npy is truncated or no .npy file ."),
    ("an open bracket", _array(lambda p: p.write_bytes(_npy(b"{'descr': ("))), "digits.npy is truncated or "),
    ("a zip", _array(lambda p: p.write_bytes(b"PK\5\6" + bytes(18))), "digits.npy is truncated or no .npy f"),
]  # fmt: skip


def _made(changed: dict | str) -> Edit:
    """Latents whose description is changed, or another text."""
    whole = {"checksum": "0", "latents": [1, 2, 2], "shape": [1, 8, 8], "scale": 1.0, "top": 16, "count": 2}
    whole |= {"mirrored": False, "autoencoder": "0"}

    def write(folder: Path) -> None:
        (folder / "autoencoder").mkdir()
        (folder / "autoencoder" / data.DESCRIBED).write_text('{"checksum": "0"}', "utf-8")
        text = changed if isinstance(changed, str) else json.dumps(whole | changed)
        (folder / data.DESCRIBED).write_text(text, "utf-8")
        np.save(folder / latents.MOMENTS, np.ones((2, 2, 2, 2), np.float32))

    return write


LATENTS: list[tuple[str, dict | str, str]] = [
    ("a list", "[1]", "described.json gives no `checksum`: run `dvc repro`"),
    ("no end", "[" * 90_000, "described.json cannot be read as JSON"),
    ("two numbers for a shape", {"latents": [1, 2]}, "described.json does not describe latents .*: run `dvc"),
    ("a scale of a text", {"scale": "x"}, "described.json does not describe latents .*: run `dvc repro`"),
    ("a scale of NaN", {"scale": float("nan")}, "standard deviation nan and not about 1"),
    ("another count", {"count": 3}, r"moments.npy holds float32 of shape \(2, 2, 2, 2\) instead of float32 "),
    ("another autoencoder", {"autoencoder": "1"}, "were made by another autoencoder"),
]  # fmt: skip


def _cifar(folder: Path, content: bytes) -> Path:
    (folder / "cifar10").mkdir()
    path = folder / "cifar10" / cifar10.FILE
    path.write_bytes(content)
    return path


def cases() -> list[Case]:
    """Every format, damaged."""

    def below(name: str, edit: Edit) -> Edit:
        def write(folder: Path) -> None:
            (folder / name).mkdir()
            edit(folder / name)

        return write

    def all_of(entry: str, inputs: list, read: Callable[[Path], object]) -> list[Case]:
        return [Case(entry, name, read, says, edit) for name, edit, says in inputs]

    def prompts() -> object:
        return np.asarray(coco.prompt_set("coco2014", 8).pixels)

    def few() -> object:
        with mock.patch.object(imagenet32, "BATCHES", 1):
            return imagenet32.pixels()

    def among(edit: Edit) -> Edit:
        return lambda folder: (_images(folder), edit(folder))

    images = [(name, among(edit), says) for name, edit, says in IMAGES]
    captioned = [(name, below("laion", edit), says) for name, edit, says in CAPTIONED]
    databases = [(name, _database(edit), says) for name, edit, says in DATABASE]
    made = [(name, _made(changed), says) for name, changed, says in LATENTS]
    return [
        *all_of("folders of images", images, _read_images),
        *all_of("captioned pictures", captioned, lambda f: _captions_read(f / "laion")),
        *all_of("COCO", COCO, lambda f: _in(f, "coco", prompts)),
        *all_of("LMDB", databases, lambda f: _in(f, "celebahq", celebahq.pixels)),
        *all_of("npz batches", BATCHES, lambda f: _in(f, "imagenet32", few)),
        *all_of("arrays", ARRAYS, lambda f: _in(f, "data", digits.pixels)),
        *all_of("latents", made, latents.opened),
        Case(
            "arrays", "a photograph that is a folder", lambda f: _in(f, "data", patches.photographs),
            "china.jpg is a folder and no file: delete", _array(lambda p: p.mkdir(), patches.FILES[0]),
        ),
        Case(
            "CIFAR-10", "a folder", lambda f: _in(f, "cifar10", cifar10.pixels),
            "cifar-10-binary.tar.gz is a folder and no file: get CIFAR-10",
            lambda f: (f / "cifar10" / cifar10.FILE).mkdir(parents=True),
        ),
        Case(
            "CIFAR-10", "another archive", lambda f: _in(f, "cifar10", cifar10.pixels),
            "cifar-10-binary.tar.gz .* has md5 .* instead of c32a1", lambda f: _cifar(f, b"x"),
        ),
        Case(
            "CIFAR-10", "a rehearsal's mark without counts", lambda f: _in(f, "cifar10", cifar10.pixels),
            "hold no images and not 'train': run `python -m fewstep rehearse` again",
            lambda f: stand_in.mark(_cifar(f, b"x").parent, StandIn()),
        ),
        Case("data sets", "a name that there is not", lambda f: data.load("mnist"), "no data set 'mnist'; t"),
    ]  # fmt: skip
