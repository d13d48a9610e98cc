"""A teacher that is led away from a weaker one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fewstep.flows.conditioning import Autoguided
from fewstep.settings.experiment import ExperimentSettings
from fewstep.training import train
from fewstep.training.job import advance
from fewstep.training.loops import terms
from fewstep.training.weights import methods_of

from . import test_sample_weights
from .test_sample_weights import FMM, PLAIN

job = test_sample_weights.job


@pytest.fixture
def teachers(job, tmp_path):
    """The weights of a trained teacher and of a weaker one."""
    files = []
    for name, steps in (("strong", 8), ("weak", 2)):
        own = job(name, terms=PLAIN, steps=steps)
        advance(own, name, steps)
        files.append(tmp_path / f"{name}-weights.safetensors")
        train.publish(own, name, files[-1])
    return files


GUIDED = {
    "terms": [{"objective": "lmd", "times": {"region": "forward"}}], "teacher": "si",
    "autoguidance": {"weak": "small", "scale": 2.0},
}  # fmt: skip


def test_an_autoguided_student_learns_from_the_combined_velocity(job, teachers, monkeypatch):
    own, seen = job(files=teachers, **GUIDED), []
    inner = terms.Loop.step
    monkeypatch.setattr(terms.Loop, "step", lambda loop: seen.append(loop) or inner(loop))
    advance(own, "mark", 1)
    assert isinstance(seen[0].teacher, Autoguided) and seen[0].teacher.scale == 2.0
    x, t = torch.randn(5, 2), torch.rand(5)
    strong, weak = seen[0].teacher.flow_map.velocity(t, x), seen[0].teacher.weak.velocity(t, x)
    assert not torch.equal(strong, weak)
    torch.testing.assert_close(seen[0].teacher.velocity(t, x), 2 * strong - weak)
    assert seen[0].residuals[0].keywords["teacher"] is seen[0].teacher


def test_the_fingerprint_knows_the_weak_teacher(job, teachers):
    one, other = job(files=teachers, **GUIDED), job(files=[teachers[0], teachers[0]], **GUIDED)
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == job(files=teachers, **GUIDED).fingerprint()


def test_both_teachers_are_trained_before_their_student(smoke):
    raw = smoke.experiment(FMM).model_dump()
    small = raw["methods"]["si"] | {"label": "small", "steps": 5}
    raw["methods"] |= {
        "small": small,
        "lmd": raw["methods"]["lmd"] | {"autoguidance": GUIDED["autoguidance"]},
    }
    raw["sampling"]["steps"]["small"], raw["sampling"]["samplers"]["small"] = [], "euler"
    settings = ExperimentSettings.model_validate(raw)
    assert settings.method("lmd").teachers == ["si", "small"] and settings.method("emd").teachers == ["si"]
    assert methods_of(settings, "teacher") == ["si", "small"]
    assert not {"si", "small"} & set(methods_of(settings, "students"))
    assert set(train._in_order(SimpleNamespace(settings=settings), ["lmd", "small", "si"])[:2]) == {
        "si",
        "small",
    }
