"""What a result was computed from, settings and code (without comments and layout), as one short hash."""

import ast
import hashlib
import json
from collections.abc import Collection, Iterable
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

PACKAGE = __package__.partition(".")[0]
# What reads settings and names files decides no number but through the settings, which count by value
PATHS = ("settings", "storage.workspace", "storage.progress", "training.experiment", "training.preparation")
UNCOUNTED = tuple(f"{PACKAGE}.{name}" for name in PATHS)


def code(source: str) -> str:
    """A hash of Python source without comments, docstrings, layout: a better text throws no training away."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def module_file(name: str) -> Path | None:
    """The file of the module `name` of this package, or None for any other."""
    package, *rest = name.split(".")
    path = Path(__file__).parents[1].joinpath(*rest)
    files = (path / "__init__.py", path.with_suffix(".py")) if package == PACKAGE else ()
    return next((file for file in files if file.exists()), None)


@cache
def imports(source: str, package: str) -> frozenset[str]:
    """The modules of this package that `source`, a module inside `package`, imports by name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if module_file(name))


def closure(modules: Iterable[str], without: Collection[str] = ()) -> dict[str, Path]:
    """`modules`, what they import of this package, and the packages that hold them, by name.

    The modules and packages in `without`, and what only they import, are left out.
    """
    files: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = module_file(name)
        if name in files or path is None or any(f"{name}.".startswith(f"{other}.") for other in without):
            continue
        files[name] = path
        parent = name.rpartition(".")[0]
        package = name if path.name == "__init__.py" else parent
        todo += imports(path.read_text(encoding="utf-8"), package) | {parent}
    return files


def fingerprint(settings: Any, modules: Iterable[str], without: Collection[str] = UNCOUNTED) -> str:
    """Sixteen hex digits of `settings` and of the code of `modules` and what they import, less `without`."""
    codes = {name: code(path.read_text(encoding="utf-8")) for name, path in closure(modules, without).items()}
    return hashlib.sha256(json.dumps([settings, codes], sort_keys=True).encode()).hexdigest()[:16]
