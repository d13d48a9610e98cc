"""params.yaml as a document: YAML 1.2 without anchors, each key once; and how a value in it is replaced."""

from collections.abc import Iterator
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from .base import SettingsError

_ANCHOR = "an anchor, an alias or a merge key: use `like`, or a name of `networks`, `optimisers` or `terms`"


def text(path: Path) -> str:
    """The text of a UTF-8 file, its line ends as they are; raises SettingsError where there is none."""
    if not path.is_file():
        found = "no file" if path.exists() else "not there"
        raise SettingsError(f"it is {found}: restore it, say by `git checkout params.yaml`")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"it is not UTF-8 from byte {error.start} on: save it as UTF-8") from None


def _duplicates(node: Node, place: str = "") -> Iterator[str]:
    """A sentence for each key of `node`, and below, that stands there twice."""
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, f"{place}[{index}]")
    if isinstance(node, MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = f"{place}.{key.value}".lstrip("."), key.start_mark.line + 1
            if name in lines:
                yield f"the key '{name}' stands on line {lines[name]} and again on line {line}: remove one"
            lines[name] = line
            yield from _duplicates(value, name)


# each stage asks for its settings several times
@lru_cache(maxsize=8)
def parse(content: str) -> Any:
    """The values of a document, not to be changed; raises SettingsError for one that is broken."""
    try:
        for event in YAML(typ="safe").parse(content):
            if getattr(event, "anchor", None) or getattr(event, "value", None) == "<<":
                raise SettingsError(f"line {event.start_mark.line + 1} has {_ANCHOR}")
        return YAML(typ="safe").load(content)
    except DuplicateKeyError:
        raise SettingsError(next(_duplicates(YAML(typ="safe").compose(content)))) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" on line {mark.line + 1}" if mark else ""
        raise SettingsError(f"it is not valid YAML: {error.problem or error.context}{line}") from None
    except (YAMLError, ValueError) as error:
        # a date or a number that there cannot be is a ValueError, without its line
        raise SettingsError(f"it is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SettingsError("its lists and mappings lie too deep in each other: take some out") from None


def with_value(content: str, key: str, value: str) -> str:
    """`content` with `value` as the value of its top-level `key`, and nothing else changed.

    Raises SettingsError where there is no such key, or its value is no plain or quoted text.
    """
    parse(content)
    root = YAML(typ="safe", pure=True).compose(content)
    found = [v for k, v in root.value if k.value == key] if isinstance(root, MappingNode) else []
    if len(found) != 1 or not isinstance(found[0].value, str) or found[0].style not in (None, "'", '"'):
        raise SettingsError(f"there is no top-level `{key}` whose value could be replaced")
    return content[: found[0].start_mark.index] + value + content[found[0].end_mark.index :]


def dump(values: Any) -> str:
    """The YAML of plain values, in their order, without anchors."""
    yaml, stream = YAML(), StringIO()
    yaml.default_flow_style, yaml.width = None, 160
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump(values, stream)
    return stream.getvalue()
