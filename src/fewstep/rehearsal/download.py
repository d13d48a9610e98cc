"""One file from the network to the disk: resumed, checked, and put in place whole or not at all.

A download goes to a .part beside its target, from which the next run goes on where the server still has the
same version of the file, as its ETag or date says.
"""

import hashlib
import os
import shutil
import zipfile
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ..data.formats.archives import no_file
from ..storage.files import lock
from ..storage.progress import Progress

# seconds without a byte, and bytes read at a time
PATIENCE, BLOCK = 60.0, 2**20
AGAIN = "run the command again, which goes on from there if the server can"


class FetchError(RuntimeError):
    """Something could not be fetched, or is not to be; the message says what, and the way out."""


@dataclass(frozen=True)
class File:
    """A file at `url` for `path`; of an archive `unpack` alone is kept, a file or folder of `holds` files."""

    url: str
    path: Path
    size: int | None = None
    checksum: str | None = None  # algorithm:digits
    unpack: Path | None = None
    holds: int = 1

    @property
    def kept(self) -> Path:
        """What is there in the end."""
        return self.unpack or self.path


def digest(path: Path, checksum: str | None) -> str:
    """The checksum of a file by the algorithm of `checksum`, or SHA-256, as algorithm:digits."""
    algorithm = (checksum or "sha256:").partition(":")[0]
    with open(path, "rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def is_there(file: File) -> bool:
    """Whether what is kept of it is there and right; FetchError where something else is in its place."""
    odd = no_file(file.kept)
    if file.unpack and file.kept.is_dir():
        held = sum(1 for _ in file.kept.iterdir())
        odd = f"holds {held:,} files instead of {file.holds:,}" if held != file.holds else ""
    elif not odd and not file.kept.exists():
        return False
    elif not odd and file.checksum and not file.unpack:
        if (found := digest(file.kept, file.checksum)) != file.checksum:
            odd = f"is another file ({found} instead of {file.checksum})"
    if odd:
        raise FetchError(f"{file.kept} {odd}: move it away, and fetch again")
    return True


def _answer(url: str, start: int, version: str) -> HTTPResponse | None:
    """The server's answer, from byte `start` if it has that `version`; None where there is no byte more."""
    asked = {"User-Agent": "fewstep"} | ({"Range": f"bytes={start}-", "If-Range": version} if start else {})
    try:
        return urlopen(Request(url, headers=asked), timeout=PATIENCE)
    except HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") in (None, f"bytes */{start}"):
                return None
            said = f"{error.code} {error.reason}"
        raise FetchError(f"{url} answers {said}: try later, or get it by hand") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise FetchError(f"{url} cannot be reached ({reason}): is there a network here?") from None


def _receive(answer: HTTPResponse, out: BinaryIO, file: File) -> None:
    """Append the answer to `out`; FetchError for a cut connection, and at once for too small a disk."""
    done, length, folder = out.tell(), answer.headers.get("Content-Length"), file.path.parent
    total = done + int(length) if length else file.size
    # an archive and what is taken out of it lie there together for a while
    needed, free = (total or 0) - done + (file.size or 0) * bool(file.unpack), shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(f"{folder} has {free:,} bytes free, and {file.url} needs {needed:,}: make room")
    with Progress(total or 0, file.path.name) as bar:
        while True:
            try:
                block = answer.read(BLOCK)
            except (OSError, HTTPException):
                block, total = b"", total or done + 1
            if not block:
                break
            out.write(block)
            done += len(block)
            bar.update(done)
    if total and done < total:
        raise FetchError(f"{file.url} was cut off after {done:,} bytes: {AGAIN}")


def download(file: File) -> None:
    """Fetch `file` to its path, going on from what an earlier run has left of the same version.

    Raises FetchError where it cannot be reached, is cut off, or is not what was published, of which nothing
    is put in place; OSError where it cannot be written.
    """
    part, mark = (file.path.with_name(f"{file.path.name}{end}") for end in (".part", ".part.version"))
    version = mark.read_text(encoding="utf-8") if mark.is_file() and part.is_file() else ""
    # of a file whose version is not known the rest could be another's
    start = part.stat().st_size if version else 0
    answer = _answer(file.url, start, version)
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as out:
        if not lock(out.fileno()):
            raise FetchError(f"{part} is being written by another fetch: wait for it")
        if answer:
            with closing(answer):
                out.seek(out.truncate(start if answer.status == 206 else 0))
                version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
                # a weak one may name two files that only look alike
                mark.write_text("" if version.startswith("W/") else version, encoding="utf-8")
                try:
                    _receive(answer, out, file)
                    out.flush()
                    os.fsync(out.fileno())
                except OSError as error:
                    raise OSError(error.errno, f"{error.strerror}; make room: {AGAIN}", str(part)) from None
        found = digest(part, file.checksum)
        mark.unlink(missing_ok=True)
        if file.checksum and found != file.checksum:
            part.unlink()
            wrong = f"{file.url} came as {found} instead of {file.checksum}"
            raise FetchError(f"{wrong}: nothing was put in place; fetch it again, or get it by hand")
        os.replace(part, file.path)
    print(f"{file.path}: {found}, {'as published' if file.checksum else 'no published checksum'}", flush=True)


def unpack(file: File) -> None:
    """Take `file.unpack` out of the archive, all of it or nothing, and delete the archive; FetchError."""
    wanted, new = file.unpack.relative_to(file.path.parent), file.unpack.with_name(f"{file.unpack.name}.part")
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(file.path) as archive:
            names = [Path(own.filename) for own in archive.infolist() if not own.is_dir()]
            # of a folder what lies in it, and by its last part alone: no name in an archive leads elsewhere
            found = {
                new if name == wanted else new / name.name: name
                for name in names
                if wanted in (name, name.parent)
            }
            if len(found) != file.holds:
                raise FetchError(
                    f"{file.path} holds {len(found):,} files of {wanted} instead of {file.holds:,}"
                )
            with Progress(len(found), f"unpacking {file.path.name}") as bar:
                for done, (target, name) in enumerate(found.items(), 1):
                    target.parent.mkdir(exist_ok=True)
                    with archive.open(name.as_posix()) as source, open(target, "wb") as out:
                        shutil.copyfileobj(source, out)
                    bar.update(done)
        os.replace(new, file.unpack)
    except (zipfile.BadZipFile, EOFError) as error:
        raise FetchError(
            f"{file.path} is no whole zip archive ({error}): delete it, and fetch again"
        ) from None
    finally:
        shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)
    file.path.unlink()
