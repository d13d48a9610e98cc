"""params.yaml: files that are no document at all."""

import os
from pathlib import Path

from .case import Case
from .settings import load


def written(name: str, content: bytes, says: str) -> Case:
    """A file of other content, none of it the shipped file's."""

    def prepare(folder: Path) -> None:
        (folder / "params.yaml").write_bytes(content)

    return Case("params.yaml", name, load("smoke"), rf"params\.yaml: .*{says}", prepare)


def cases() -> list[Case]:
    """Files that are no document at all."""

    def folder(place: Path) -> None:
        (place / "params.yaml").mkdir()

    def pipe(place: Path) -> None:
        os.mkfifo(place / "params.yaml")

    return [
        written(
            "lists in lists in lists",
            b"a: " + b"[" * 5000 + b"]" * 5000,
            r"(lie too deep in each other|must be one of)",
        ),
        written("a number of 5,000 digits", b"tier: " + b"9" * 5000, r"(not valid YAML|must be one of)"),
        written("a date that there cannot be", b"tier: 2024-13-45", r"(not valid YAML|must be one of)"),
        written("UTF-16", "tier: smoke\n".encode("utf-16"), r"not UTF-8 from byte 0 on: save it as UTF-8"),
        written("zeros", bytes(100), r"not valid YAML"),
        written("nothing", b"", r"must hold the keys tier, publish, terms, experiments, tiers"),
        written(
            "a key twice",
            b"tier: smoke\nterms: {}\ntier: smoke\n",
            r"'tier' stands on line 1 and again on line 3",
        ),
        written(
            "a list for experiments",
            b"tier: smoke\nexperiments: []\ntiers: {}\n",
            r"experiments: .*dictionary",
        ),
        Case(
            "params.yaml",
            "a folder in its place",
            load("smoke"),
            r"params\.yaml: it is no file: restore it",
            folder,
        ),
        Case(
            "params.yaml",
            "a pipe in its place",
            load("smoke"),
            r"params\.yaml: it is no file: restore it",
            pipe,
        ),
        Case("params.yaml", "no file", load("smoke"), r"params\.yaml: it is not there: restore it"),
    ]
