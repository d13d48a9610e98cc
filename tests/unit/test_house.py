"""The rooms of the library: a room imports from those before it and from no other, and nothing stands loose
beside them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fewstep

# from the ground up; a room may import from those before it
ROOMS = (
    "storage", "flows", "objectives", "data", "networks", "metrics", "settings", "training",
    "evaluation", "pipeline", "rehearsal", "release",
)  # fmt: skip
PACKAGE = Path(fewstep.__file__).parent


def imports(path: Path) -> set[str]:
    """The modules and names below fewstep that a file imports, at run time, by their path inside the
    package."""
    tree, parts = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).with_suffix("").parts
    package, found, skipped = list(parts[:-1]), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= {id(inner) for inner in ast.walk(node)}
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif node.module and node.module.split(".")[0] == "fewstep":
                base = []
            else:
                continue
            named = (node.module or "").split(".") if node.module else []
            base += named if node.level else named[1:]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def files(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_those_before_it(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for path in files(room):
        wrong = {
            name
            for name in imports(path)
            if name.split(".")[0] in ROOMS and name.split(".")[0] not in allowed
        }
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}"


def test_there_are_these_rooms_and_nothing_loose():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(
        ROOMS
    )
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py", "cli.py"}


def test_every_room_says_what_is_in_it():
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))), (
            room
        )


def test_no_two_modules_import_each_other():
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    arrows = {}
    for name, path in modules.items():
        targets = {found if found in modules else found.rpartition(".")[0] for found in imports(path)}
        arrows[name] = {
            target
            for target in targets
            if target in modules and target != name and not name.startswith(f"{target}.")
        }

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            for target in arrows[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    assert not [name for name in modules if name in reached(name)]
