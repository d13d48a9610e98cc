"""Files of results read back: what is cut short, or a text for a number, is refused by file and line."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

# kinds of columns; all but ANY and those that say so must be filled
TEXT, ANY, WHOLE, NUMBER, BOUND = "text", "text or nothing", "whole number", "finite number", "number"
OR_NOTHING = {WHOLE: "whole number or nothing", NUMBER: "finite number or nothing"}


class DamagedFileError(ValueError):
    """A file of results is not as it was written; the message names the file, the line and the cure."""


@contextmanager
def entries(path: Path, cure: str) -> Iterator[Any]:
    """What a YAML file holds; what its reader cannot find there is a DamagedFileError."""
    try:
        yield yaml.safe_load(_text(path, cure))
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise DamagedFileError(f"{path} is cut short or damaged ({problem}): {cure}") from None


def _text(path: Path, cure: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise DamagedFileError(f"{path} is not UTF-8 text: {cure}") from None
    if not text.endswith("\n"):
        raise DamagedFileError(f"{path} is cut short, its last line has no end: {cure}")
    return text


def _is(kind: str, value: str) -> bool:
    if kind in (TEXT, ANY) or not value.strip():
        return kind == ANY or kind in OR_NOTHING.values() or bool(value.strip())
    try:
        number = float(value)
    except ValueError:
        return False
    if "whole" in kind:
        return isfinite(number) and number == int(number)
    return not isnan(number) if kind == BOUND else isfinite(number)


def read(path: Path, columns: Mapping[str, str], cure: str) -> pd.DataFrame:
    """A CSV file with these columns, of these kinds; DamagedFileError, ending in `cure`, for any other."""
    text = _text(path, cure)
    lines = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        head = next(lines)
        if absent := [name for name in columns if name not in head]:
            raise DamagedFileError(f"{path} has no column {', '.join(absent)}: {cure}")
        for fields in lines:
            where = f"{path}, line {lines.line_num}"
            if len(fields) != len(head):
                raise DamagedFileError(f"{where} has {len(fields)} of {len(head)} fields: {cure}")
            for name, value in zip(head, fields):
                if not _is(kind := columns.get(name, ANY), value):
                    raise DamagedFileError(f"{where}: `{name}` is {value!r} and no {kind}: {cure}")
    except csv.Error as error:
        raise DamagedFileError(f"{path}, line {lines.line_num} cannot be read ({error}): {cure}") from None
    if lines.line_num < 2:
        raise DamagedFileError(f"{path} holds no row: {cure}")
    return pd.read_csv(StringIO(text))


def require_once(rows: pd.DataFrame, keys: list[str], where: str, cure: str) -> None:
    """Raise DamagedFileError where two of `rows` say the same `keys`."""
    if (twice := rows.duplicated(keys)).any():
        said = ", ".join(f"{key} {value}" for key, value in rows.loc[twice, keys].iloc[0].items())
        raise DamagedFileError(f"{where} has more than one row of {said}: {cure}")
