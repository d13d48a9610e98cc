"""The stages as a graph."""

from __future__ import annotations

import re

from fewstep.pipeline import site, site_pages

from .pages import TIER


def test_the_arrows_between_stages_are_those_of_dvc(root):
    stages = site.plan(root, TIER)
    graph = site_pages.graph(stages, {"2-students-fmm-cifar10": 1.5})
    arrows = set(graph["arrows"])
    chain = ["teacher", "students", "sample", "measure-images", "figures-images", "publish"]
    names = {
        phase: next(n for n in graph["boxes"] if re.match(rf"{phase}@smoke(-fmm)?(-cifar10)?$", n))
        for phase in ("prepare", *chain)
    }
    assert {(names[a], names[b]) for a, b in zip(chain, chain[1:])} <= arrows
    assert ("students-captions@smoke-scflow-coco2017", "sample-captions@smoke-scflow-coco2014") in arrows
    assert (names["prepare"], names["measure-images"]) in arrows
    # through another arrow: what is sampled comes from the teacher too
    assert (names["teacher"], names["sample"]) not in arrows
    assert graph["boxes"][names["students"]]["seconds"] == 1.5
    # no phase of an experiment is left out
    assert {stage.name for stage in stages if stage.experiment} <= set(graph["boxes"])
    assert ("protocol@smoke-scflow-celebahq", "publish@smoke") in arrows
