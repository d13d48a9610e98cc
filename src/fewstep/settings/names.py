"""Names and seeds as the command line takes them too, which loads no schema for them."""

import re

TIERS = ("smoke", "laptop", "overnight", "paper")
# seeds go through torch's, numpy's and Python's generators, and others are counted from them
MOST_SEED, MOST_STEPS = 2**31 - 1, 10_000
# the pipeline beside the main one, by the folder of its dvc.yaml: the field in one table
ZOO = "zoo"


def check_name(name: str) -> str:
    """`name`; raises ValueError unless it can name a folder, and a word of a command, as it is."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        made = "a name is made of up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first"
        raise ValueError(f"{made}: rename {name!r:.80}")
    return name


def check_tier(name: str) -> str:
    """`name`; raises ValueError for a tier that there is not."""
    if name not in TIERS:
        raise ValueError(f"there is no tier {name!r:.80}; there are {', '.join(TIERS)}")
    return name
