"""Faults in rehearsal/: what is fetched, resumed, checked and put in place."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "rehearsal/download.py",
        "download",
        ("a cut download begins afresh", "start = part.stat().st_size if version else 0", "start = 0"),
        ("the whole behind a part of it", "if answer.status == 206 else 0", "if answer else 0"),
        ("a weak version is a version", '"" if version.startswith("W/") else version', "version"),
        ("a whole part is asked for for ever", "if error.code == 416 and", "if error.code == 417 and"),
        ("a cut download is a whole one", "if total and done < total:", "if not total:"),
        ("a wrong file is put in place", "if file.checksum and found != file.checksum:", "if not found:"),
        ("a wrong file is gone on from", "            part.unlink()\n", ""),
        ("room for the archive alone", " + (file.size or 0) * bool(file.unpack)", ""),
        ("two write one file", "if not lock(out.fileno()):", "if lock(out.fileno()) is None:"),
        ("an archive may lack files", "if len(found) != file.holds:", "if not found:"),
        ("names lead out of an archive", "wanted in (name, name.parent)", "wanted in (name, *name.parents)"),
        ("half of an archive is left", "shutil.rmtree(new) if new.is_dir() else", "new.exists() or"),
    ),
    *within(
        "rehearsal/download.py",
        "fetch::test_what_is_there_is_not_fetched_again_and_another_file_is_not_replaced",
        (
            "another file is what was published",
            "if (found := digest(file.kept, file.checksum)) != file.checksum:",
            "if not (found := digest(file.kept, file.checksum)):",
        ),
        ("half a folder is there", 'if held != file.holds else ""', 'if not held else ""'),
    ),
    *within(
        "rehearsal/fetch.py",
        "fetch",
        ("the network is asked unbidden", "if not yes:", "if not (yes or wanted):"),
        ("what is there is fetched again", "if is_there(file):", "if is_there(file) and False:"),
        (
            "an archive is not checked",
            "if not is_there(replace(file, unpack=None)):",
            "if not file.path.exists():",
        ),
        ("a rehearsal's folder is filled", "if stand_in.is_marked(entry.folder):", "if not entry.folder:"),
        (
            "what is got by hand is not said",
            "for entry in chosen if entry.by_hand]:",
            "for entry in chosen if 0]:",
        ),
        ("every file in the entry's folder", 'folder_of(own.get("folder", name))', "folder_of(name)"),
    ),
    (
        "a list that fetches",
        "cli.py",
        "arguments.yes and not arguments.list",
        "arguments.yes",
        "fetch::test_without_yes_all_is_said_and_nothing_asked",
    ),
]
