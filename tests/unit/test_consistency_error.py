"""More steps of a slightly wrong map: trained rows beside the closed forms, their picture and claims."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fewstep.evaluation import claims, consistency_error, sample, tables
from fewstep.evaluation.measures import KL
from fewstep.evaluation.plots.curves import curves, curves_beside
from fewstep.evaluation.provenance import Provenance
from fewstep.settings import tiers

from .test_evidence import TRACE

POINTS = "zoo-checkerboard"
ORIGIN = Provenance("6-one-map", "0123456789ab", "abc", "a CPU", "torch")
# KL by row and number of steps; the second training of CM is best at four
CURVES = {
    "cm-renoised-1": {1: 0.5, 2: 0.4, 4: 0.3, 8: 0.2, 16: 0.25, 32: 0.3, 64: 0.4},
    "consistency-renoised-1": {1: 0.6, 2: 0.45, 4: 0.35, 8: 0.28, 16: 0.26, 32: 0.31, 64: 0.47},
    "consistency": {2: 0.4, 32: 0.22, 64: 0.2},
    "lmd": {2: 0.19, 32: 0.14, 64: 0.15},
}
# by claim without its table: its values of two trainings
CLAIMED = {
    "renoised-consistency-model-worse-at-32": (0.1, 0.15),
    "renoised-consistency-model-worse-at-64": (0.2, 0.25),
    "renoised-flow-map-worse-at-32": (0.05, 0.05), "renoised-flow-map-worse-at-64": (0.21, 0.21),
    "lmd-jumps-better-at-32": (0.05, 0.05), "lmd-jumps-better-at-64": (0.04, 0.04),
    "consistency-jumps-better-at-32": (0.18, 0.18), "consistency-jumps-better-at-64": (0.2, 0.2),
    "jumps-beat-renoising-at-32": (0.09, 0.09), "jumps-beat-renoising-at-64": (0.27, 0.27),
}  # fmt: skip


class Named:
    """An experiment at tier laptop, as tables and claims read it."""

    def __init__(self, root, name: str):
        self.name, self.tier, self.data_name = name, "laptop", "digits"
        self.settings = tiers.load(root / "params.yaml", "laptop").experiment(name)


def more_steps() -> pd.DataFrame:
    """The measured rows of CURVES, of two trainings."""
    rows = []
    for method, nfe, value, seed in (
        (m, n, v, s) for m, own in CURVES.items() for n, v in own.items() for s in (0, 1)
    ):
        value -= 0.15 * (seed == 1 and (method, nfe) == ("cm-renoised-1", 4))
        row = {"method": method, "metric": KL, "nfe": nfe, "train_seed": seed, "sample_seed": 0}
        rows.append(row | {"value": value, "samples": 9, "protocol": "x"} | TRACE)
    return pd.DataFrame(rows)


@pytest.fixture
def table(root) -> pd.DataFrame:
    own = Named(root, POINTS)
    quality = tables.build(own, more_steps())[POINTS]
    cost = tables.computed(
        [{"method": "LMD", "metric": "training steps", "nfe": 0, "value": 9.0, "seeds": "2 training",
          "samples": 9, "protocol": "y"}], POINTS, "laptop", ORIGIN,
    )  # fmt: skip
    return consistency_error.table("laptop", ORIGIN, tables.with_cost(quality, [cost]))


def test_trained_rows_stand_below_the_closed_forms_by_their_kl(table):
    assert list(table.columns) == list(tables.COLUMNS) and set(table.table) == {consistency_error.NAME}
    assert tables.metrics(table) == [consistency_error.METRIC, KL]
    closed, trained = (table[table.metric == metric] for metric in tables.metrics(table))
    assert list(closed.method.unique()) == list(consistency_error.ROWS)
    assert list(trained.method.unique()) == [
        "consistency model, re-noised (CM)", "flow map, re-noised (consistency)",
        "flow map, jumps (consistency)", "flow map, jumps (LMD)",
    ]  # fmt: skip
    found = trained.set_index(["method", "nfe"]).value
    assert found["consistency model, re-noised (CM)", 4] == pytest.approx(0.3 - 0.075)
    assert found["flow map, re-noised (consistency)", 32] == pytest.approx(0.31)
    assert found["flow map, jumps (consistency)", 32] == pytest.approx(0.22)
    assert found["flow map, jumps (LMD)", 64] == pytest.approx(0.15)
    assert set(trained.experiment) == {POINTS} and set(trained.seeds) == {"2 training x 1 sampling"}


@pytest.mark.parametrize("tier", ["smoke", "laptop", "overnight"])
def test_each_trained_row_is_drawn_in_all_numbers_of_steps_by_the_sampler_it_names(root, tier):
    settings = tiers.load(root / "params.yaml", tier).experiment(POINTS)
    names, drawn = sample.labels(settings), sample.plan(settings)
    for row, said in consistency_error.TRAINED.items():
        own = [draw for draw in drawn if names[draw.method] == row]
        assert sorted({draw.steps for draw in own}) == list(consistency_error.STEPS)
        assert {draw.sampler for draw in own} == {"renoised-1" if "re-noised" in said else "jumps"}
        assert {settings.methods[draw.network].label for draw in own} == {said[said.index("(") + 1 : -1]}
        # a map that learns the data alone as its end is a consistency model, any other a flow map
        ends = {term.times.region for draw in own for term in settings.methods[draw.network].terms}
        assert said.startswith("consistency model" if ends == {"data"} else "flow map")


def test_claims_are_positive_where_re_noised_steps_hurt_and_jumps_help(root):
    def of_more_steps(claim: dict) -> bool:
        return claim["id"].removeprefix("{table}").replace("{N}", "32")[1:] in CLAIMED

    own = [claim for group in claims._file() for claim in group["claims"] if of_more_steps(claim)]
    assert len(own) == len(CLAIMED) / 2
    found = {}
    for claim in own:
        for n in claim["for"]:
            values, over = claims._values(
                {"metric": KL, "over": claims.TRAINING} | claim | {"N": n}, more_steps(), {}
            )
            assert over == "2 training seeds"
            found[claim["id"].format(table="x", N=n)[2:]] = values
    assert found.keys() == CLAIMED.keys()
    for name, values in CLAIMED.items():
        assert found[name] == pytest.approx(values), name


def test_the_picture_has_a_panel_a_metric_with_a_legend_of_its_own_beside_it(table):
    picture = curves_beside(table, "more steps")
    assert list(picture.numbers) == [consistency_error.METRIC, KL] and picture.png()
    first, second = picture.figure.axes
    for axis, metric in ((first, consistency_error.METRIC), (second, KL)):
        assert axis.get_ylabel() == metric and picture.numbers[metric] == curves(table, metric, "").numbers
        legend = [text.get_text() for text in axis.get_legend().get_texts()]
        assert legend == list(picture.numbers[metric])
        looks = [(line.get_color(), str(line.get_linestyle())) for line in axis.get_legend().get_lines()]
        assert len(set(looks)) == len(looks)
    renderer = FigureCanvasAgg(picture.figure).get_renderer()
    beside = first.get_legend().get_window_extent(renderer)
    assert first.get_window_extent().x1 < beside.x0 and beside.x1 < second.get_tightbbox(renderer).x0
    assert "beside it KL to target against network calls per sample for consistency model, re-" in picture.alt
    assert np.isfinite([value for own in picture.numbers[KL].values() for _, value in own]).all()
