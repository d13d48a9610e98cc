"""Downloads and archives: resumed, checked, and put in place whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fewstep.rehearsal import download
from fewstep.rehearsal.download import FetchError, File
from fewstep.storage.files import lock
from tests.file_server import CONTENT, MD5, Server, serve, zipped


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serve() as own:
        yield own


@pytest.fixture
def file(server, tmp_path) -> File:
    return File(f"{server.address}file", tmp_path / "own" / "file.bin", len(CONTENT), MD5)


def left(file: File) -> dict[str, bytes]:
    """The files in the folder of `file`, by name."""
    return {path.name: path.read_bytes() for path in file.path.parent.iterdir()}


# Downloads


@pytest.mark.parametrize("checksum", (MD5, f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", None))
def test_a_file_is_fetched_whole_and_its_checksum_said(server, file, checksum, capsys):
    download.download(replace(file, checksum=checksum, size=len(CONTENT) if checksum else None))
    assert left(file) == {"file.bin": CONTENT} and server.asked == [("/file", None)]
    said = f"{checksum}, as published" if checksum else ", no published checksum"
    assert said in capsys.readouterr().out


def test_a_cut_download_goes_on_where_the_server_can(server, file):
    server.cut = 70_000
    with pytest.raises(FetchError, match="was cut off after 70,000 bytes: run the command again"):
        download.download(file)
    assert left(file) == {"file.bin.part": CONTENT[:70_000], "file.bin.part.version": b'"one"'}
    server.cut = 150_000
    with pytest.raises(FetchError, match="after 150,000 bytes"):
        download.download(file)
    server.cut = None
    download.download(file)
    assert left(file) == {"file.bin": CONTENT}
    assert [wanted for _, wanted in server.asked] == [None, "bytes=70000-", "bytes=150000-"]


@pytest.mark.parametrize(
    ("version", "later"),
    (('"one"', {"ranges": False}), ('"one"', {"version": '"two"'}), ('W/"one"', {}), ("", {})),
)
def test_a_cut_download_begins_afresh_where_the_server_cannot_go_on(server, file, version, later):
    """It knows no ranges, or has another version of the file later, or never says which one in earnest."""
    server.cut, server.version = 70_000, version
    with pytest.raises(FetchError):
        download.download(file)
    server.cut, server.files["/file"] = None, CONTENT[::-1]
    for name, value in later.items():
        setattr(server, name, value)
    download.download(replace(file, checksum=None))
    assert left(file) == {"file.bin": CONTENT[::-1]}


def test_what_a_killed_run_had_whole_is_put_in_place(server, file):
    file.path.parent.mkdir()
    file.path.with_name("file.bin.part").write_bytes(CONTENT)
    file.path.with_name("file.bin.part.version").write_text(server.version, encoding="utf-8")
    download.download(file)
    assert left(file) == {"file.bin": CONTENT} and server.asked == [("/file", f"bytes={len(CONTENT)}-")]


def test_another_content_than_the_published_one_leaves_nothing(server, file):
    server.files["/file"] = CONTENT[:-1] + b"x"
    with pytest.raises(FetchError, match=rf"came as md5:\w+ instead of {MD5}: nothing was put in place"):
        download.download(file)
    assert left(file) == {}


def test_an_address_that_is_gone_and_a_machine_without_network_leave_nothing(server, file):
    with pytest.raises(FetchError, match=r"gone answers 404 Not Found: try later, or get it by hand"):
        download.download(replace(file, url=f"{server.address}gone"))
    with pytest.raises(FetchError, match=r"http://127.0.0.1:1/file cannot be reached .*is there a network"):
        download.download(replace(file, url="http://127.0.0.1:1/file"))
    assert not file.path.parent.exists()


def test_too_small_a_disk_is_said_before_a_byte_is_written(server, file, monkeypatch):
    """An archive and what is taken out of it lie there together for a while."""
    free = SimpleNamespace(free=len(CONTENT) + 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(
        FetchError, match=rf"has {free.free:,} bytes free, and \S+ needs {2 * len(CONTENT):,}"
    ):
        download.download(replace(file, unpack=file.path.with_name("folder")))
    assert left(file)["file.bin.part"] == b""
    download.download(file)


def test_a_full_disk_is_said_and_what_came_is_kept(server, file, monkeypatch):
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        OSError, match=r"No space left on device; make room: run the command again.*file.bin.part"
    ):
        download.download(file)
    assert left(file)["file.bin.part"] == CONTENT


def test_two_do_not_write_one_file(server, file):
    file.path.parent.mkdir()
    with open(file.path.with_name("file.bin.part"), "ab") as other:
        assert lock(other.fileno())
        with pytest.raises(FetchError, match="is being written by another fetch"):
            download.download(file)


# Archives


def test_of_an_archive_one_folder_is_kept(tmp_path):
    members = {
        "val/1.jpg": b"one",
        "val/2.jpg": b"two",
        "val/": b"",
        "other/3.jpg": b"",
        "val/../../4.jpg": b"4",
    }
    file = File("", tmp_path / "own.zip", unpack=tmp_path / "val", holds=2)
    file.path.write_bytes(zipped(members))
    download.unpack(file)
    assert {path.name for path in tmp_path.rglob("*")} == {"val", "1.jpg", "2.jpg"}
    assert download.is_there(file) and (tmp_path / "val" / "2.jpg").read_bytes() == b"two"


def test_an_archive_that_lacks_a_file_or_is_none_leaves_nothing_but_itself(tmp_path):
    file = File("", tmp_path / "own.zip", unpack=tmp_path / "val", holds=2)
    file.path.write_bytes(zipped({"val/1.jpg": b"one"}))
    with pytest.raises(FetchError, match=r"own.zip holds 1 files of val instead of 2"):
        download.unpack(file)
    file.path.write_bytes(b"no archive")
    with pytest.raises(FetchError, match=r"own.zip is no whole zip archive .*: delete it, and fetch again"):
        download.unpack(file)
    damaged = zipped({"val/1.jpg": b"one", "val/2.jpg": b"two"})
    file.path.write_bytes(damaged.replace(b"two", b"TWO", 1))
    with pytest.raises(FetchError, match="is no whole zip archive"):
        download.unpack(file)
    assert [path.name for path in tmp_path.iterdir()] == ["own.zip"]
