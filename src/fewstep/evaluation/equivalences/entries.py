"""What is the same under two names, or nearly: the rows of the table of equivalences, from entries.yaml."""

import re
from pathlib import Path

import yaml

from . import formulas
from .check import Equivalence


def _entry(sides: str, papers: str, **words: str) -> Equivalence:
    linked = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", papers)
    return Equivalence(papers=linked, sides=getattr(formulas, sides), **words)


_FOUND = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
ENTRIES = tuple(_entry(**own) for own in _FOUND)
