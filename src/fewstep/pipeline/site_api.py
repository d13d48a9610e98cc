"""The API reference: what pdoc finds in the docstrings of the public page and of the rooms of mathematics."""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from textwrap import dedent
from typing import Any

from pdoc import doc

import fewstep

PACKAGE = fewstep.__name__
ROOMS = ("flows", "objectives", "metrics")
# what "torch.Tensor" in a signature has before the name
PATH = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
EXAMPLE = re.compile(r"^ *>>> .*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)


def _text(own: doc.Doc[Any]) -> str:
    """A docstring as Markdown: its examples are code, and so are names between underscores."""
    text = re.sub(r"(?<!`)__\w+__(\.\w+)?", r"`\g<0>`", own.docstring)
    return EXAMPLE.sub(lambda match: f"```python\n{dedent(match[0])}\n```", text)


def _entry(own: doc.Doc[Any], called: str) -> dict[str, Any]:
    """A function or a class with its methods, for the page."""
    maker, methods = own, list[doc.Doc[Any]]()
    if isinstance(own, doc.Class):
        maker = own.members.get("__init__")
        methods = [one for one in _public(own) if isinstance(one, doc.Function)]
    signature = ""
    if isinstance(maker, doc.Function):
        signature = str(maker.signature_without_self if "." in maker.qualname else maker.signature)
    # what takes anything, as a protocol does, is said without it
    signature = "" if "*args" in signature else PATH.sub("", signature)
    return {
        "id": called, "words": f"{'class' if isinstance(own, doc.Class) else 'def'} {own.name}{signature}",
        "name": own.name, "text": _text(own),
        "methods": [_entry(one, f"{called}.{one.name}") for one in methods],
    }  # fmt: skip


def _public(own: Any) -> list[doc.Doc[Any]]:
    """The functions and classes that a module or a class defines itself and explains."""
    found = [one for one in own.own_members if isinstance(one, doc.Function | doc.Class)]
    return [one for one in found if not one.name.startswith("_") and one.docstring]


def _modules(own: doc.Module) -> Iterator[doc.Module]:
    yield own
    for one in own.submodules:
        yield from _modules(one)


def rooms() -> dict[str, list[dict[str, Any]]]:
    """What each room holds, module by module; their import loads torch, scipy and pandas."""
    found: dict[str, list[dict[str, Any]]] = {}
    for room in ROOMS:
        for module in _modules(doc.Module(import_module(f"{PACKAGE}.{room}"))):
            called = module.fullname.removeprefix(f"{PACKAGE}.{room}").lstrip(".")
            entries = [_entry(one, ".".join(filter(None, (called, one.name)))) for one in _public(module)]
            if entries or module.docstring:
                own = {"id": f"module-{called or room}", "name": called or room, "text": _text(module)}
                found.setdefault(room, []).append(own | {"entries": entries})
    return found


def public_page(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What the package says of itself, and its names: where in the rooms `found` each is, or its entry."""
    places = dict[str, str]()
    for room, modules in found.items():
        for module in modules:
            where, page = f"{PACKAGE}.{room}.{module['name']}", f"api/{room}.html"
            places[where] = f"{page}#{module['id']}"
            places |= {f"{where}.{entry['name']}": f"{page}#{entry['id']}" for entry in module["entries"]}
    names, entries = [], []
    for name in fewstep.__all__:
        module = getattr(fewstep, name).__module__
        member = doc.Module(import_module(module)).members[name]
        explained = isinstance(member, doc.Function | doc.Class)
        if explained and f"{module}.{name}" not in places:
            entries.append(_entry(member, name))
            places[f"{module}.{name}"] = f"#{name}"
        said = member.docstring.partition("\n\n")[0] if explained else f"One of {module}."
        names.append({"name": name, "href": places.get(f"{module}.{name}", places.get(module)), "said": said})
    return {"text": _text(doc.Module(fewstep)), "names": names, "entries": entries}
