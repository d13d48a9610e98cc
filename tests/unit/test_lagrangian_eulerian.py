"""Lagrangian against Eulerian: the claims change one thing at a time, and the table says which."""

import numpy as np
import pandas as pd
import pytest

from fewstep.evaluation import claims, lagrangian_eulerian, tables
from fewstep.pipeline import report
from fewstep.settings import tiers
from fewstep.settings.names import ZOO
from fewstep.storage.files import read_written
from fewstep.storage.workspace import Workspace

from .test_consistency_error import CLAIMED, Named, more_steps
from .test_evidence import TRACE
from .test_image_tables import TOUR_ALONE

ZOOS = POINTS, DIGITS, LATENTS = tuple(lagrangian_eulerian.TABLES)
KEYS = {"LMD": "lmd", "AYF-LMD": "ayf-lmd", "EMD": "emd", "consistency": "consistency", "AYF-EMD": "ayf-emd"}
# by claim without its table and N: the methods (worse, better) as it claims them
PAIRS = {
    "lmd-beats-emd": ("emd", "lmd"), "lagrangian-beats-eulerian-stopped": ("consistency", "ayf-lmd"),
    "stopping-helps-lmd": ("lmd", "ayf-lmd"), "stopping-helps-emd": ("emd", "consistency"),
    "normalising-helps-emd": ("consistency", "ayf-emd"), "ayf-emd-beats-ayf-lmd": ("ayf-lmd", "ayf-emd"),
    "ayf-emd-beats-lmd": ("lmd", "ayf-emd"),
}  # fmt: skip


def measured(name: str, change: dict | None = None) -> pd.DataFrame:
    """Two trainings of each method at N = 1, 2, 4, better in the order of KEYS but for what `change` says."""
    metric, rows = lagrangian_eulerian.TABLES[name], []
    for k, method in enumerate(KEYS.values()):
        for nfe in (1, 2, 4):
            value = (change or {}).get(method, float(k)) + 10 * nfe
            for seed in (0, 1):
                row = {"method": method, "metric": metric, "nfe": nfe, "train_seed": seed, "sample_seed": 0}
                rows.append(
                    row | {"value": value + 0.01 * seed * (k + 1), "samples": 9, "protocol": "x"} | TRACE
                )
    found = pd.DataFrame(rows)
    if name != POINTS:
        return found
    # other claims on the checkerboard ask for rows in many steps
    many = more_steps()
    return pd.concat([found, many[~many.method.isin(KEYS.values()) | (many.nfe > 4)]])


@pytest.mark.parametrize("name", ZOOS)
def test_each_claim_compares_its_two_methods_at_its_own_steps_over_trainings(root, name):
    table, order = name.rpartition("-")[2], list(KEYS.values())
    others = {f"{table}-{own}" for own in CLAIMED}
    found = [c for c in claims.evaluate(Named(root, name), measured(name)) if c.name not in others]
    assert [claim.name for claim in found] == [f"{table}-{own}-at-{n}" for own in PAIRS for n in (1, 2)]
    for claim in found:
        worse, better = PAIRS[claim.name.removeprefix(f"{table}-")[: -len("-at-1")]]
        apart = order.index(worse) - order.index(better)
        assert claim.values == pytest.approx((apart, 1.01 * apart)) and claim.threshold == 0
        assert claim.over == "2 training seeds" and claim.table == name
        labels = {own: label for label, own in KEYS.items()}
        n, metric = claim.name[-1], "KL" if name == POINTS else "FID"
        said = f"{metric}({labels[worse]}, N={n}) - {metric}({labels[better]}, N={n})"
        assert claim.statistic.startswith(f"{said} (") and f"at N = {n}" in claim.statement


@pytest.mark.parametrize("tier", ["smoke", "laptop", "overnight"])
@pytest.mark.parametrize("name", ZOOS)
def test_what_the_table_says_of_a_method_is_what_it_was_trained_with(root, tier, name):
    own = tiers.load(root / "params.yaml", tier).experiment(name)
    stops = {"full": "nothing", "semi": "the teacher's input", "value": "all but v"}
    found = {}
    for method in (own.methods[key] for key in KEYS.values()):
        ((objective, options),) = {(term.objective, str(term.options)) for term in method.terms}
        options = method.terms[0].options
        equation = {"lmd": "Lagrangian", "emd": "Eulerian", "consistency": "Eulerian"}[objective]
        stopped = "all but v" if objective == "consistency" else stops[options["gradient"]]
        normalised = "yes, and warmed up" if options.get("normalise") and options.get("warmup") else "no"
        found[method.label] = (equation, stopped, normalised)
    assert found == lagrangian_eulerian.METHODS


def test_the_table_has_the_metric_of_each_experiment_at_one_and_two_steps(root):
    built = {name: tables.build(Named(root, name), measured(name))[name] for name in ZOOS}
    for missing in ZOOS:
        assert lagrangian_eulerian.table({k: v for k, v in built.items() if k != missing}) == {}
    ((name, found),) = lagrangian_eulerian.table(built).items()
    assert list(found.columns) == list(tables.COLUMNS) and set(found.table) == {name}
    assert set(found.nfe) == {1, 2} and not found.duplicated(["method", "metric", "nfe"]).any()
    metrics = {"KL to target, checkerboard": POINTS, "FID, digits": DIGITS, "FID, latents": LATENTS}
    assert tables.metrics(found) == list(metrics)
    for metric, own in metrics.items():
        assert set(found[found.metric == metric].experiment) == {own}
        wide = tables.shown(found, metric)
        assert list(wide.index) == [lagrangian_eulerian.label(method) for method in KEYS]
    kl = tables.shown(found, "KL to target, checkerboard")
    label = "Eulerian, stops all but v, normalised: yes, and warmed up (AYF-EMD)"
    assert kl.loc[label].to_dict() == {"N = 1": "14.025 ± 0.035", "N = 2": "24.025 ± 0.035"}


FIGURES = """
stages:
  figures:
    wdir: ..
    matrix: {tier: ["${tier}"]}
    cmd: python -m fewstep run 6-one-map --tier ${item.tier} --folder zoo
    deps: []
    outs:
      - artifacts/${item.tier}/zoo/report/one-map
      - artifacts/${item.tier}/zoo/notebooks/6-one-map.ipynb
"""


def test_the_zoos_report_has_the_claims_that_its_notebook_hands_none_of(root, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    (tmp_path / "dvc.yaml").write_text(TOUR_ALONE, encoding="utf-8")
    (tmp_path / ZOO).mkdir()
    (tmp_path / ZOO / "dvc.yaml").write_text(FIGURES, encoding="utf-8")
    workspace = Workspace(tmp_path, "laptop")
    rows = {name: measured(name, {"emd": -3.0} if name == POINTS else None) for name in ZOOS}
    monkeypatch.setattr(claims.Experiment, "open", lambda tier, name: Named(root, name))
    monkeypatch.setattr(claims, "load", lambda experiment: rows[experiment.name])
    built = {name: tables.build(Named(root, name), own)[name] for name, own in rows.items()}
    own = claims.ledger([], "laptop")
    report.write(workspace, "one-map", "6-one-map", report.Results(built, own, {}, {"123": {}}), ZOO)
    notebook = workspace.pipeline / ZOO / "notebooks" / "6-one-map.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.write_text("{}", encoding="utf-8")
    report.publish(workspace, beside=ZOO)
    files = read_written(tmp_path / "results" / "laptop", "zoo.json")
    assert {"tables/lagrangian-against-eulerian.csv", "figures/zoo-claims.png"} <= set(files)
    ledger = pd.read_csv(tmp_path / "results" / "laptop" / "zoo-claims.csv").set_index("claim")
    assert len(ledger) == 3 * 2 * len(PAIRS) + len(CLAIMED) and set(ledger.tier) == {"laptop"}
    assert ledger.verdict["checkerboard-lmd-beats-emd-at-1"] == "contradicted"
    assert ledger.verdict["digits-lmd-beats-emd-at-1"] == "supported"
    assert ledger.verdict["latents-lmd-beats-emd-at-1"] == "supported"
    assert ledger.sign_p["digits-lmd-beats-emd-at-1"] == 0.25
    page = files["zoo.md"].decode()
    assert "](figures/zoo-claims.png)" in page and report.HOW_TO_READ_CLAIMS in page
    assert "## lagrangian-against-eulerian" in page and "| 0.25 (least 0.25) |" in page


def test_claims_that_a_notebook_has_evaluated_are_not_evaluated_again(monkeypatch):
    monkeypatch.setattr(claims.Experiment, "open", lambda tier, name: pytest.fail(name))
    own = claims.ledger([claims.Claim("a", "p", "s", "t", (1.0, 2.0), POINTS, "2 training seeds")], "laptop")
    assert claims.with_others(own, [POINTS, "one-map-speed"], "laptop") is own
    assert np.isfinite(own.effect[0])
