"""Fetching what tier paper needs, where it has a public address: fetch.yaml says what, and where from."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ..data.formats.archives import ENVIRONMENT, folder_of
from ..storage import stand_in
from .download import FetchError, File, download, is_there, unpack

TABLE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Entry:
    """What is fetched under one name: files, and the command to run `then`, or where to get it by hand."""

    name: str
    about: str
    folder: Path
    files: tuple[File, ...]
    by_hand: str
    then: str


def entries() -> dict[str, Entry]:
    """All that there is in fetch.yaml, by name, with the folders where it lies on this machine."""
    found = {}
    for name, own in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items():
        folder, files = folder_of(own.get("folder", name)), []
        for file in own.get("files", ()):
            path = folder / file.get("to", file["from"].rpartition("/")[2])
            kept = folder / file["unpack"] if "unpack" in file else None
            known = file.get("bytes"), file.get("checksum")
            files.append(File(own["base"] + file["from"], path, *known, kept, file.get("holds", 1)))
        by_hand = own.get("by_hand", "").replace("{folder}", str(folder))
        then = own.get("then", "").replace("{folder}", shlex.quote(str(folder)))
        found[name] = Entry(name, own["about"], folder, tuple(files), by_hand, then)
    return found


def described(entry: Entry) -> str:
    """What is fetched, from where, how large, with which checksum and to where; no file is read."""
    lines = [f"{entry.name}: {entry.about}"]
    for file in entry.files:
        size = f"{file.size:,} bytes" if file.size else "size not published"
        there = ", which is there" if file.kept.exists() else ""
        lines += [f"  {file.url}", f"    {size}, {file.checksum or 'no published checksum'}"]
        lines += [f"    to {file.kept}{there}"]
    lines += [f"  by hand: {entry.by_hand}"] if entry.by_hand else []
    return "\n".join(lines + ([f"  then: {entry.then}"] if entry.then else []))


def _fetch(entry: Entry) -> None:
    if stand_in.is_marked(entry.folder):
        found = f"{entry.folder} holds a rehearsal's files ({stand_in.FILE} says so)"
        raise FetchError(f"{found}: move it away, and fetch again")
    for file in entry.files:
        if is_there(file):
            print(f"{file.kept} is there", flush=True)
            continue
        if not is_there(replace(file, unpack=None)):
            download(file)
        if file.unpack:
            unpack(file)
    print(f"then: {entry.then}" if entry.then else f"{entry.name} is in {entry.folder}", flush=True)


def fetch(names: Iterable[str], yes: bool) -> None:
    """Print what is fetched for `names` (all, if none), and with `yes` fetch what is not there yet.

    Raises ValueError for a name that there is not; FetchError and OSError as `download` and `unpack`; and
    FetchError for what has to be got by hand, after the others have been fetched.
    """
    known, wanted = entries(), list(dict.fromkeys(names))
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"there is no '{unknown[0]}' to fetch; there are {', '.join(known)}")
    if yes and not wanted:
        raise ValueError(f"say what to fetch; there are {', '.join(known)}")
    chosen = [known[name] for name in wanted or known]
    print("\n".join(map(described, chosen)), flush=True)
    if not yes:
        print(f"Nothing was fetched: `fewstep fetch NAME... --yes` does. {ENVIRONMENT} names another folder.")
        return
    for entry in chosen:
        if entry.files:
            _fetch(entry)
    if left := [f"{entry.name} has to be got by hand: {entry.by_hand}" for entry in chosen if entry.by_hand]:
        raise FetchError("; and ".join(left))
