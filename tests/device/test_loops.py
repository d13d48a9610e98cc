"""On a device as on the CPU: all loops, exact resumption, precision, memory layout, compilation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewstep import objectives
from fewstep.settings.networks import TextUNetSettings, UNetSettings
from fewstep.settings.training import Method, Term, precision_problems
from fewstep.training import job as run
from fewstep.training import loops, precision, train
from fewstep.training.loops import scflow, sid, terms
from fewstep.training.processes import Processes, require_cuda
from fewstep.training.state import EMA, STUDENT, State

from ..gpu.noise import Noise, OnNoise
from ..tolerances import ON_DEVICE, TRAINED
from .maps import F64, TEXT, UNET, batch, gradient, moved, off, perturb

pytestmark = pytest.mark.cuda
LOSSES = {
    "threshold": 0.1, "truncation": 0.4, "reflow": {"weight": 0.1}, "bidirectional": {"weight": 0.1},
    "adversarial": {"weight": 0.1, "lr": 1e-3, "r1": 1.0, "channels": [8, 8]},
}  # fmt: skip
ON_TEXTS = LOSSES | {"adversarial": {"weight": 0.1, "lr": 1e-3, "r1": 0.0, "head": 8}}
# as `training` of params.yaml says it, and whose tolerance it has
MODES = {
    "fp32": {"precision": "fp32"}, "tf32": {"precision": "tf32"}, "bf16": {"precision": "bf16"},
    "channels-last": {"precision": "fp32", "channels_last": True},
    "compiled": {"precision": "fp32", "compile": True},
    "CUDA graphs": {"precision": "fp32", "compile": True, "cuda_graphs": True},
}  # fmt: skip


class Terms(terms.Loop):
    """The loop, with what is random in a step drawn on the CPU: a device has other numbers for a seed."""

    def draw_batch(self, x1):
        return moved(super().draw_batch(x1), self.job.device)


class SCFlow(scflow.Loop):
    """The same of SCFlow's loop."""

    def _draw(self):
        drawn, to = super()._draw(), self.job.device
        own = {name: getattr(drawn, name).to(to) for name in ("z0", "z1", "t", "u_down", "u_up")}
        texts = None if drawn.texts is None else drawn.texts.to(to)
        noised = None if drawn.noised is None else tuple(value.to(to) for value in drawn.noised)
        return replace(drawn, **own, texts=texts, noised=noised)


class SiD(sid.Loop):
    """The same of score identity distillation's loop."""

    def _draw(self):
        noise, times = super()._draw()
        return [x.to(self.job.device) for x in noise], [t.to(self.job.device) for t in times]


def distilled(**losses) -> Method:
    return Method(label="SCFlow", steps=10, teacher="si", start="teacher", self_correction=losses)


@pytest.fixture(scope="module")
def trainings(smoke) -> dict[str, run.Job]:
    """What is trained, by the name of its loop: a perceptron, a UNet, and a UNet conditioned on captions."""
    points, images = (smoke.experiment(name) for name in ("fmm-checkerboard", "fmm-cifar10"))
    lmd = points.method("lmd").model_copy(update={"steps": 10})
    small = images.training.model_copy(update={"batch": 8})
    own = {"data": "latents", "latents": "laion", "network": TextUNetSettings(**TEXT), "batch": 8}
    texts = small.model_copy(update=own)
    unused = Path("unused")
    matched = Method(
        label="SiD", steps=10, teacher="si", start="teacher", distribution_matching={"lr": 0.005}
    )
    return {
        "terms": run.Job(points.training, lmd, 0, unused),
        "scflow": run.Job(small, distilled(**LOSSES), 0, unused),
        "sid": run.Job(points.training, matched, 0, unused),
        "scflow on texts": OnNoise(
            texts, distilled(**ON_TEXTS).model_copy(update={"guidance_scale": 1.5}), 0, unused,
            noise=Noise((4, 8, 8), 16),
        ),
    }  # fmt: skip


def stepped(job: run.Job, steps: int) -> tuple[State, torch.Tensor]:
    """The state after some steps, and the student's weights before them."""
    own = loops.load(job.method.loop)
    teacher = perturb(replace(job, seed=7).fresh(), 7).requires_grad_(False).eval()
    state = own.start(job, teacher)
    state.generator = torch.Generator().manual_seed(job.seed)
    before = torch.cat([w.detach().flatten().clone() for w in state.weights[STUDENT]])
    loop = {terms: Terms, scflow: SCFlow, sid: SiD}[own](job, state, teacher, Processes())
    training = job.training.model_copy(update={"precision": "fp32"})
    with precision.one_thread(), precision.products(training):
        for _ in range(steps):
            loop.step()
    return state, before


@pytest.mark.parametrize("name", ["terms", "scflow", "scflow on texts", "sid"])
def test_a_few_steps_of_a_loop(device, trainings, name):
    (found, _), (reference, before) = (
        stepped(replace(trainings[name], device=on), 3) for on in (device, "cpu")
    )
    assert set(found.networks) == set(reference.networks) >= {STUDENT, EMA}
    for network in reference.networks:
        ours, theirs = (
            torch.cat([w.detach().cpu().flatten() for w in state.weights[network]])
            for state in (found, reference)
        )
        assert off(ours, theirs) < TRAINED, network
    assert off(found.log[:3], reference.log[:3]) < TRAINED
    after = torch.cat([w.detach().cpu().flatten() for w in reference.weights[STUDENT]])
    assert off(after, before.cpu()) > 1e-4, "nothing was learned"


@pytest.fixture(scope="module")
def resumable(trainings, device, tmp_path_factory) -> Callable[[str, str], run.Job]:
    """resumable(name, state): a training of four steps on the device, its teacher trained there before."""
    folder, made = tmp_path_factory.mktemp("resumed"), {}

    def job(name: str, state: str) -> run.Job:
        own = trainings["terms" if name == "soap" else name]
        optimiser = own.training.optimiser.model_copy(update={"kind": "soap"} if name == "soap" else {})
        own = replace(own, training=own.training.model_copy(update={"optimiser": optimiser}), device=device)
        own = replace(own, method=own.method.model_copy(update={"steps": 4}))
        if name not in made:
            si = Method(label="SI", steps=2, terms=[{"objective": "si", "times": {"region": "diagonal"}}])
            teacher = replace(own, method=si, state=folder / f"{name}-si.state")
            run.advance(teacher, "mark", 2)
            made[name] = folder / f"{name}-si.safetensors"
            train.publish(teacher, "mark", made[name])
        return replace(own, state=folder / f"{name}-{state}.state", teacher=made[name])

    return job


@pytest.mark.parametrize("name", ["terms", "soap", "scflow", "sid"])
def test_two_steps_and_two_more_are_four_bit_for_bit(resumable, repeatable, name):
    whole, pieces = resumable(name, "whole"), resumable(name, "pieces")
    run.advance(whole, "mark", 4)
    for until in (2, 4):
        run.advance(pieces, "mark", until)
    assert pieces.state.read_bytes() == whole.state.read_bytes()


@pytest.mark.parametrize("objective", ["si", "lmd"])
@pytest.mark.parametrize("mode", MODES)
def test_a_precision_a_layout_and_compilation(device, smoke, mode, objective):
    shared = smoke.experiment("fmm-checkerboard").training
    shared = shared.model_copy(update={"data": "digits", "network": UNetSettings(**UNET), "batch": 8})
    training, found = shared.model_copy(update=MODES[mode]), []
    # the settings' own sentence: what a CPU cannot do, or takes too long for
    if problem := next(precision_problems(training, {"unet"}, device), None):
        pytest.skip(problem)
    method = Method(
        label=objective, steps=4, teacher="si", terms=[Term(objective="si", times={"region": "diagonal"})]
    )
    for own, on, to in ((training, device, device), (shared, "cpu", F64)):
        job = run.Job(own, method, 0, Path("unused"), device=on)
        student, teacher = (perturb(replace(job, seed=seed).fresh(), seed).to(to) for seed in (0, 1))
        drawn = moved(batch((1, 8, 8)), to)
        if own.channels_last:
            drawn = replace(drawn, x0=precision.laid_out(drawn.x0, own), x1=precision.laid_out(drawn.x1, own))
            assert student.network.model.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        needs = objectives.needs_teacher(objective)
        residual = objectives.bind(objective, {}, teacher.requires_grad_(False) if needs else None)
        with precision.products(own):
            with precision.evaluating(own, on):
                values = residual(student, drawn)
            found.append((values, gradient(values.mean(), student)))
    (values, slope), (exact, exact_slope) = found
    within = ON_DEVICE[MODES[mode]["precision"]]
    assert off(values, exact) < within.value and off(slope, exact_slope) < within.gradient
    if mode == "bf16":
        assert off(values, exact) > ON_DEVICE["fp32"].value, "nothing was rounded"


def test_more_processes_than_gpus_are_one_sentence(device, monkeypatch):
    if device == "cpu":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    there = torch.cuda.device_count()
    require_cuda(there)
    said = rf"trains on {there + 1} GPUs .* and {there} are visible: lower `processes`$"
    with pytest.raises(RuntimeError, match=said):
        require_cuda(there + 1)
