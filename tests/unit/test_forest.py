"""The forest plot: where each claim lies, in which colour, and what is said where there is no interval."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from fewstep.evaluation.plots.curves import LOOK, REACH, forest

COLUMNS = ["claim", "paper", "statistic", "value", "low", "high", "verdict", "over"]
ROWS = [
    (
        "late",
        "arXiv 2",
        "b; claimed > 0",
        -1.0,
        -1.5,
        -0.5,
        "contradicted",
        "3 sampling seeds of one training",
    ),
    ("near", "arXiv 1", "a; claimed > 10", 11.0, 10.5, 11.5, "supported", "3 training seeds"),
    ("wide", "arXiv 1", "a; claimed > 0", 0.5, -0.5, 1.5, "undecided", "3 training seeds"),
    ("far", "arXiv 1", "a; claimed > 0", 100.0, 99.0, 101.0, "supported", "3 training seeds"),
    ("equal", "arXiv 2", "b; claimed > 0", 1.0, 1.0, 1.0, "supported", "2 sampling seeds of a training"),
    ("lone", "arXiv 2", "b; claimed > 0", 1.0, -np.inf, np.inf, "undecided", "1 training seed"),
]


@pytest.fixture
def picture():
    # as `publish` puts ledgers together: one of an experiment without claims has columns of objects
    ledgers = [pd.DataFrame(ROWS, columns=COLUMNS), pd.DataFrame([], columns=COLUMNS)]
    return forest(pd.concat(ledgers), "All claims")


def test_each_claim_lies_at_its_distance_from_the_threshold_by_paper(picture):
    assert picture.numbers == {
        "near": ["supported", 2.0],
        "wide": ["undecided", 0.5],
        "far": ["supported", REACH],
        "late": ["contradicted", -2.0],
        "equal": ["supported", None],
        "lone": ["undecided", None],
    }
    assert list(picture.numbers) == ["near", "wide", "far", "late", "equal", "lone"], (
        "by paper, else in their order"
    )
    assert "6 claims, 3 supported, 2 undecided, 1 contradicted" in picture.alt


def test_colours_and_markers_say_the_verdict_and_hollow_ones_the_seeds(picture):
    (axis,) = picture.figure.axes
    drawn = [line for line in axis.get_lines() if len(line.get_xdata()) == 1 and line.get_ydata()[0] > 0]
    found = {line.get_xdata()[0]: line for line in drawn}
    for at, verdict in ((2.0, "supported"), (0.5, "undecided"), (-2.0, "contradicted")):
        colour, marker = LOOK[verdict]
        assert to_hex(found[at].get_color()) == colour.lower() and found[at].get_marker() == marker
    assert found[-2.0].get_markerfacecolor() == "white" != found[2.0].get_markerfacecolor()
    assert found[REACH].get_marker() == ">", "what lies beyond the edge is an arrow"
    assert {"its seeds agree", "one seed: no interval"} <= {text.get_text() for text in axis.texts}
    # an interval that ends beyond zero is decided, and no other is
    bars = [line.get_xdata() for line in axis.get_lines() if len(line.get_xdata()) == 2]
    assert [1.0, 3.0] in [list(bar) for bar in bars] and [-0.5, 1.5] in [list(bar) for bar in bars]
