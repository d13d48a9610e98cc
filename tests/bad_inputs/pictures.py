"""Pictures of a saved student, the prompts for them, and folders that a student is saved to."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep import cli
from fewstep.release import FewStepPipeline

from .case import Case
from .saved_students import INDEX, replaced, saved


def command(name: str, words: str, says: str, prepare: Callable[[Path], Any] = lambda own: None) -> Case:
    """`python -m fewstep sample`; "{}" in `words` is the folder."""

    def run(place: Path) -> None:
        arguments = cli._parser().parse_args(["sample", *(word.format(place) for word in words.split())])
        arguments.action(place, arguments)

    def together(place: Path) -> None:
        for kind in ("pixels", "texts"):
            shutil.copytree(saved(kind), place / kind)
        prepare(place)

    return Case("sample", name, run, says, together)


def commands() -> list[Case]:
    """Options and files of `python -m fewstep sample`."""
    to, texts = " --to {}/new.png", "{}/texts --to {}/new.png"
    cases = [
        command(f"{option} {value}", f"{{}}/pixels {option} {value}{to}", says)
        for option, value, says in (
            ("--steps", "0", "`--steps` is a whole number from 1 to 10,000, not 0: change it"),
            ("--steps", "1000000000", "`--steps` is a whole number from 1 to 10,000, not 1000000000"),
            ("--count", "-3", "`--count` is a whole number from 1 to 1,024, not -3"),
            ("--count", "1000000000", "`--count` is a whole number from 1 to 1,024, not 1000000000"),
            ("--seed", "-1", "a sampling seed is a whole number from 0 to 4,293,967,292, not -1"),
            ("--seed", str(2**63), f"a sampling seed is a whole number from 0 to .*, not {2**63}"),
            ("--guidance", "nan", "`guidance_scale` is a number from 0 on, not nan"),
            ("--prompt", "circle", "pixels was trained without text: leave --prompt out"),
        )
    ]
    for name, target, says, prepare in (
        ("a pipe", "pipe.png", "pipe.png is no file: nothing was written; name another file with --to",
         lambda own: os.mkfifo(own / "pipe.png")),
        ("a folder", "d.png", "d.png is no file: nothing", lambda own: (own / "d.png").mkdir()),
        ("a JPEG", "a.jpg", "a.jpg does not end with .png", lambda own: None),
        ("somebody's picture", "a.png", "a.png exists and was not written by `python -m fewstep sample`",
         lambda own: Image.new("L", (3, 3)).save(own / "a.png")),
        ("somebody's text", "a.png", "a.png exists and was not", replaced("a.png", "mine")),
        ("a link to somebody's file", "link.png", "link.png exists and was not written by",
         lambda own: (replaced("mine", "mine")(own), (own / "link.png").symlink_to("mine"))),
        ("a link to itself", "link.png", "link.png is no file", lambda own: (own / "link.png").symlink_to(
            "link.png")),
        ("below a file", "a/b.png", "b.png cannot be .* since .*a is no folder", replaced("a", "mine")),
    ):  # fmt: skip
        cases.append(command(f"--to {name}", f"{{}}/pixels --to {{}}/{target}", says, prepare))
    return [
        *cases,
        command("no prompt", texts, 'draws what a text says: give --prompt "a text", as often as you like'),
        command("two prompts for three", f"{texts} --prompt a --prompt b --count 3", "2 prompts do not go"),
        command("no folder", f"{{}}/none{to}", "none is no saved student: there is no such folder"),
        command("a file for a folder", f"{{}}/a{to}", "a is no saved student: there", replaced("a", "")),
        command("an empty folder", f"{{}}/e{to}", f"holds no {INDEX}", lambda own: (own / "e").mkdir()),
    ]


def targets() -> list[Case]:
    """Folders that a student is saved to."""
    way = "nothing was written; name another folder"

    def save(place: Path) -> None:
        FewStepPipeline.from_pretrained(place / "student").save_pretrained(place / "to")

    def with_student(prepare: Callable[[Path], Any]) -> Callable[[Path], Any]:
        return lambda place: (shutil.copytree(saved("pixels"), place / "student"), prepare(place))

    def with_notes(place: Path) -> None:
        shutil.copytree(saved("pixels"), place / "to")
        (place / "to" / "notes.txt").write_text("mine", encoding="utf-8")

    def linked(place: Path) -> None:
        (place / "mine").mkdir()
        (place / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
        (place / "to").symlink_to("mine")

    cases = []
    for name, says, prepare in (
        ("a file", f"to is a file: {way}", replaced("to", "mine")),
        ("a pipe", f"to is a file: {way}", lambda own: os.mkfifo(own / "to")),
        ("a link to itself", f"to is a link that leads nowhere: {way}",
         lambda own: (own / "to").symlink_to("to")),
        ("a link to somebody's folder", f"mine exists and is no saved student: {way}", linked),
        ("a student with notes", "to holds notes.txt, which is no part of a saved student", with_notes),
    ):  # fmt: skip
        cases.append(Case("save to", name, save, says, with_student(prepare)))
    return cases


def cases() -> list[Case]:
    return [*commands(), *targets()]
