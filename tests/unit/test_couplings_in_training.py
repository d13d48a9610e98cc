"""How training couples noise and data: by the averaged map, or by an encoder that learns beside."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fewstep import objectives
from fewstep.flows.conditioning import Conditions
from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.flows.interpolants import Batch
from fewstep.settings.laws import GeneratorCoupling
from fewstep.settings.training import Method
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.training import train
from fewstep.training.job import Job, advance
from fewstep.training.loops import couplings, terms
from fewstep.training.processes import Processes
from fewstep.training.weights import load_log

from . import test_sample_weights
from .test_sample_weights import ENCODER, GENERATOR, PLAIN, TWO, loop_of

job = test_sample_weights.job


def watched(loop: terms.Loop, monkeypatch) -> list:
    """The batches that the first term's objective is given."""
    seen, inner = [], []
    loop._bind()
    inner += loop.residuals
    loop.residuals = [
        lambda student, batch, f=residual: seen.append(batch) or f(student, batch) for residual in inner
    ]
    return seen


def test_a_generator_changes_the_data_of_its_share_and_nothing_else(job, monkeypatch):
    plain, own = loop_of(job()), loop_of(job(coupling=GENERATOR))
    for loop in (plain, own):
        # an averaged map that moves its points
        with torch.no_grad():
            for p in loop.state.weights["ema"]:
                p.fill_(0.05)
    expected, found = watched(plain, monkeypatch), watched(own, monkeypatch)
    plain.step()
    own.step()
    assert len(found) == 2
    for a, b in zip(expected, found):
        assert all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("x0", "s", "t", "g"))
        changed = (a.x1 != b.x1).any(1)
        assert changed.tolist() == [False, True] * 4
        ends = own_jump(plain, a)
        torch.testing.assert_close(b.x1[changed], ends[changed], rtol=1e-4, atol=1e-5)


def own_jump(loop: terms.Loop, batch) -> torch.Tensor:
    """X_{s,1}(I_s) of the averaged map as it was before the step."""
    network = loop.job.fresh()
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.05)
        return network.jump(batch.s, torch.ones_like(batch.s), batch.at(batch.s).point)


def test_an_encoder_starts_as_the_independent_coupling_and_then_leaves_it(job, monkeypatch):
    plain, own = loop_of(job()), loop_of(job(coupling=ENCODER))
    expected, found = watched(plain, monkeypatch), watched(own, monkeypatch)
    plain.step()
    own.step()
    assert all(torch.equal(a.x0, b.x0) and torch.equal(a.x1, b.x1) for a, b in zip(expected, found))
    assert torch.equal(plain.state.log[0], own.state.log[0, :2]) and own.state.log[0, 2] == 0
    for _ in range(4):
        plain.step()
        own.step()
    assert not torch.equal(expected[-1].x0, found[-1].x0) and own.state.log[4, 2] > 0


def test_a_dear_divergence_keeps_the_coupling_independent(job):
    """The larger its weight, the smaller the divergence that the encoder ends with."""
    ends = {}
    for weight in (0.0, 1.0, 1e6):
        loop = loop_of(job(steps=60, terms=PLAIN, coupling={"kind": "encoder", "weight": weight}))
        while loop.state.step < 60:
            loop.step()
        ends[weight] = float(loop.state.log[-10:, 2].mean())
    assert ends[0.0] > ends[1.0] > 0
    assert ends[1e6] < 0.05 * ends[1.0] + 1e-3


def test_a_free_encoder_lowers_the_loss(job):
    ends = {}
    for name, coupling in (("independent", None), ("encoder", {"kind": "encoder", "weight": 0.1})):
        loop = loop_of(job(steps=150, terms=PLAIN, coupling=coupling))
        while loop.state.step < 150:
            loop.step()
        ends[name] = float(loop.state.log[-50:, 0].mean())
    assert ends["encoder"] < 0.9 * ends["independent"]


@pytest.mark.parametrize("coupling", [GENERATOR | {"share": 0.3}, ENCODER])
def test_several_processes_couple_what_one_does(job, coupling, monkeypatch):
    whole, seen = loop_of(job(coupling=coupling)), []
    expected = watched(whole, monkeypatch)
    whole.step()
    for rank in range(2):
        # alone, so that its gradients are its own share's
        part = loop_of(job(coupling=coupling), Processes(rank, 2))
        monkeypatch.setattr(Processes, "sum", lambda self, loss, parameters: loss)
        found = watched(part, monkeypatch)
        part.step()
        seen.append(found)
    for k, batch in enumerate(expected):
        assert torch.equal(torch.cat([seen[0][k].x1, seen[1][k].x1]), batch.x1)
        assert torch.equal(torch.cat([seen[0][k].x0, seen[1][k].x0]), batch.x0)


TEACHERLESS = [name for name in objectives.names() if not objectives.needs_teacher(name)]


@pytest.mark.parametrize("objective", TEACHERLESS)
@pytest.mark.parametrize("coupling", [GENERATOR, ENCODER], ids=lambda coupling: coupling["kind"])
def test_couplings_go_with_every_objective_without_a_teacher(job, objective, coupling):
    """One step each; of an encoder's first gradients those of its last layer alone are not zero."""
    half = [{"objective": objective, "share": 0.5, "times": {"region": "forward"}}]
    loop = loop_of(job(terms=[PLAIN[0] | {"share": 0.5}, *half], coupling=coupling))
    with torch.no_grad():
        for p in loop.state.weights["student"]:
            p.add_(0.05)
    loop.step()
    assert loop.state.log[0].isfinite().all()
    if coupling is ENCODER:
        assert loop.state.weights["encoder"][-1].grad.abs().min() > 0


@pytest.mark.parametrize("coupling", [GENERATOR, ENCODER], ids=lambda coupling: coupling["kind"])
def test_couplings_of_images(smoke, tmp_path, coupling):
    training = smoke.experiment("fmm-cifar10").training.model_copy(update={"batch": 4})
    method = {"label": "SI", "steps": 2, "terms": TWO, "coupling": coupling, "learned_weight": True}
    loop = loop_of(Job(training, Method.model_validate(method), 0, tmp_path / "state"))
    for _ in range(2):
        loop.step()
    assert loop.state.log.isfinite().all()


def test_a_generator_reads_the_captions_of_its_own_samples():
    read = []

    class Network(torch.nn.Module):
        def forward(self, s, t, x, conditions):
            read.append(conditions.hidden.flatten().tolist())
            return x

    method = SimpleNamespace(coupling=GeneratorCoupling(kind="generator", share=0.5))
    state = SimpleNamespace(networks={"ema": NetworkFlowMap(Network())})
    captions = Conditions(torch.arange(8.0)[:, None, None], torch.ones(8, 1, dtype=torch.bool))
    batch = Batch(torch.randn(8, 2), torch.randn(8, 2), *torch.rand(3, 8))
    couplings.couple(SimpleNamespace(method=method), state, batch, 0, captions)
    assert read == [[1.0, 3.0, 5.0, 7.0]]


def test_an_encoder_is_not_published(job, tmp_path):
    own = job(coupling=ENCODER, learned_weight=True)
    advance(own, "mark", 8)
    target = tmp_path / "out.safetensors"
    train.publish(own, "mark", target)
    published = load_checkpoint(target)[0]
    assert not [name for name in published if "encoder" in name or "loss_weight" in name]
    assert set(load_log(target)) == {"loss", "gradient_norm", "divergence"}
