"""States of trainings and what is published of them: only what this training wrote, and all of that."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fewstep import objectives
from fewstep.settings.tiers import Compute
from fewstep.settings.training import Optimiser
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fewstep.storage.fingerprint import closure
from fewstep.training import optimisers, precision, train
from fewstep.training.job import Job, advance, marker, read_state
from fewstep.training.loops import terms
from fewstep.training.loops.update import ema_decay, learning_rate
from fewstep.training.state import DivergedError, State
from fewstep.training.trainer import Trainer
from fewstep.training.weights import load_log


@pytest.fixture
def job(smoke, tmp_path) -> Job:
    """Ten steps of a small network on the checkerboard."""
    own = smoke.experiment("fmm-checkerboard")
    network = own.training.network.model_copy(update={"width": 8})
    optimiser = own.training.optimiser.model_copy(update={"ema": 0.5})
    training = own.training.model_copy(update={"network": network, "batch": 4, "optimiser": optimiser})
    method = own.method("si").model_copy(update={"steps": 10})
    return Job(training, method, 3, tmp_path / "seed-3.safetensors")


def state_of(kind: str = "adam", steps: int = 4, rows: tuple[str, ...] = ("loss", "gradient_norm")) -> State:
    torch.manual_seed(0)
    networks = {"student": nn.Linear(3, 2), "ema": nn.Linear(3, 2).requires_grad_(False)}
    learns = {"student": optimisers.build(kind, networks["student"].parameters(), 0.1)}
    return State(networks, learns, torch.Generator().manual_seed(5), torch.zeros(steps, len(rows)), rows)


def learn(state: State, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(4, 3, generator=state.generator)
        loss = (state.networks["student"](x) - 1).square().mean()
        state.optimisers["student"].zero_grad()
        loss.backward()
        state.optimisers["student"].step()
        state.record({"loss": loss, "gradient_norm": loss})


@pytest.mark.parametrize("kind", ["adam", "radam", "soap"])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_state_that_goes_on_ends_as_one_that_never_stopped(kind, at):
    whole, first, second = state_of(kind), state_of(kind), state_of(kind)
    learn(whole, 4)
    learn(first, at)
    stored = {name: value.clone() for name, value in first.tensors().items()}
    second.restore(stored, at, Path("state"))
    learn(second, 4 - at)
    assert second.step == 4
    for name, value in whole.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name


def test_nothing_is_restored_of_a_state_that_is_refused():
    state, other = state_of(), state_of()
    learn(other, 2)
    spoiled = other.tensors() | {"log": torch.zeros(3, 2)}
    before = {name: value.clone() for name, value in state.tensors().items()}
    with pytest.raises(CheckpointError, match="^here is no state of this training: 'log' is torch.float"):
        state.restore(spoiled, 2, Path("here"))
    assert all(torch.equal(value, before[name]) for name, value in state.tensors().items())
    assert state.step == 0 and state.tensors().keys() == before.keys()


NAN = torch.full((2, 3), torch.nan)


@pytest.mark.parametrize(
    "change, step, says",
    [
        ({}, -1, "it stands at step -1 of 4"),
        ({}, 5, "it stands at step 5 of 4"),
        ({}, True, "it stands at step True of 4"),
        ({"student.weight": NAN}, 2, "'student.weight' holds numbers that are not finite"),
        ({"ema.weight": NAN}, 2, "'ema.weight' holds numbers that are not finite"),
        ({"optimiser.student.0.exp_avg": NAN}, 2, "'optimiser.student.0.exp_avg' holds numbers"),
        ({"optimiser.student.0.exp_avg": NAN.half()}, 2, "exp_avg' is torch.float16 and not torch.float32"),
        ({"optimiser.student.7.exp_avg": NAN}, 2, "exp_avg' is foreign"),
        ({"student.weight": torch.ones(2, 3).int()}, 2, r"is torch.int32 of shape \(2, 3\) and not"),
    ],
)
def test_what_is_no_state_of_this_training_is_refused(change, step, says):
    state, other = state_of(), state_of()
    learn(other, 2)
    with pytest.raises(CheckpointError, match=f"^here is no state of this training: .*{says}.*; delete it$"):
        state.restore(other.tensors() | change, step, Path("here"))


def test_only_a_finished_run_with_sound_weights_is_published(job, tmp_path):
    target = tmp_path / "out.safetensors"
    advance(job, "mark", 4)
    with pytest.raises(CheckpointError, match="stands at step 4 of 10: finish the training first"):
        train.publish(job, "mark", target)
    advance(job, "mark", 10)
    tensors, info = load_checkpoint(job.state)
    name = next(name for name in tensors if name.startswith("ema."))
    for spoiled, says in ((tensors[name].half(), "float16 there"), (tensors[name] / 0, "not finite")):
        save_checkpoint(job.state, tensors | {name: spoiled}, info)
        with pytest.raises(CheckpointError, match=says):
            train.publish(job, "mark", target)
    save_checkpoint(job.state, tensors, info | {"step": -1})
    with pytest.raises(CheckpointError, match="seed-3.safetensors stands at step -1 of 10: delete it"):
        train._to_come(job, "mark")
    assert not target.exists()


def test_a_training_diverges_only_where_it_did():
    state = state_of()
    learn(state, 3)
    state.require_finite("one", "lower lr")
    state.log[0, 1] = torch.inf
    state.require_finite("one", "lower lr")  # a gradient that was clipped
    state.log[2, 0] = torch.nan
    with pytest.raises(
        DivergedError, match="^the training of one diverged: its loss is not finite at step 3; lower lr$"
    ):
        state.require_finite("one", "lower lr")
    state.log[0, 0] = torch.inf
    with pytest.raises(DivergedError, match="at its first step.*its data or its teacher are at fault"):
        state.require_finite("one", "lower lr")
    state.log.zero_()
    with torch.no_grad():
        state.networks["ema"].weight[0, 0] = torch.nan
    with pytest.raises(DivergedError, match="one diverged: its weights are not finite; lower lr"):
        state.require_finite("one", "lower lr")
    assert issubclass(DivergedError, RuntimeError), "the command line says such errors as one sentence"


def test_weights_that_are_not_finite_are_never_stored(job, monkeypatch):
    advance(job, "mark", 5)
    before = job.state.read_bytes()
    true = terms.Loop.step

    def step(loop):
        true(loop)
        next(loop.state.networks["student"].parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(terms.Loop, "step", step)
    with pytest.raises(DivergedError, match=r"SI \(seed-3\) diverged.*; lower optimiser.lr"):
        advance(job, "mark", 6)
    assert job.state.read_bytes() == before


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")]
)
def test_memory_that_ends_is_one_sentence_with_its_cure(job, monkeypatch, error):
    def step(loop):
        raise error

    monkeypatch.setattr(terms.Loop, "step", step)
    cure = (
        "a step of SI at batch 4 does not fit into memory: lower training.batch, or raise compute.processes"
    )
    with pytest.raises(torch.OutOfMemoryError, match=f"^{cure}$"):
        advance(job, "mark", 5)
    with pytest.raises(RuntimeError, match="^another$"), precision.enough_memory("work", "cure"):
        raise RuntimeError("another")


def test_a_published_run_is_its_average_and_its_log(job, tmp_path):
    advance(job, "mark", 10)
    path = tmp_path / "out.safetensors"
    train.publish(job, "mark", path)
    state, (tensors, info) = load_checkpoint(job.state)[0], load_checkpoint(path)
    weights = {name for name in tensors if name.startswith("weights.")}
    assert weights and len(weights) == sum(name.startswith("ema.") for name in state)
    for name in weights:
        assert torch.equal(tensors[name], state[name.replace("weights.", "ema.")])
    assert any(not torch.equal(tensors[n], state[n.replace("weights.", "student.")]) for n in weights)
    assert {key: info[key] for key in ("seed", "steps", "drawn", "fingerprint", "data")} == {
        "seed": 3, "steps": 10, "drawn": 40, "fingerprint": "mark", "data": "checkerboard",
    }  # fmt: skip
    assert info["shape"] == [2] and info["network"]["width"] == 8
    log = load_log(path)
    assert list(log) == ["gradient_norm", "loss"] and len(log["loss"]) == 10
    assert np.array_equal(log["loss"], state["log"][:, 0]) and (log["gradient_norm"] > 0).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_finished_state_of_another_run_is_neither_published_nor_trained_on(job, tmp_path, workers):
    advance(job, "other", 10)
    before, target = job.state.read_bytes(), tmp_path / "out.safetensors"
    run = train.Run(10, lambda: (job, "mark"), lambda job, mark: train.publish(job, mark, target))
    with pytest.raises(CheckpointError, match=r"belongs to another run \(fingerprint other, not mark\)"):
        train.train_all([run] * workers, Compute(device="cpu", workers=workers), "training")
    assert not target.exists() and job.state.read_bytes() == before


def test_a_state_is_read_with_its_step(job):
    advance(job, "mark", 7)
    tensors, info = read_state(job, "mark")
    assert info["step"] == 7 and info["columns"] == ["loss", "gradient_norm"]
    assert (tensors["log"][:7, 0] > 0).all() and not tensors["log"][7:].any()
    assert advance(job, "mark", 7) == 7, "what is reached is not trained again"
    advance(job, "mark", 9)
    assert read_state(job, "mark")[1]["step"] == 9
    marker(job.state).mkdir()
    assert train._reached(job) == 0


def test_slices_are_a_twelfth_between_bounds():
    assert train._slices(600) == list(range(50, 601, 50))
    assert train._slices(30) == [30] and train._slices(51) == [50, 51]
    assert train._slices(1200) == list(range(100, 1201, 100))
    assert train._slices(400_000)[:2] == [5000, 10_000] and train._slices(400_000)[-1] == 400_000


def optimiser(**changes: object) -> Optimiser:
    own = {"kind": "adam", "lr": 0.1, "schedule": "linear", "warmup": 0.2, "ema": 0.1, "clip_norm": 1.0}
    return Optimiser.model_validate(own | changes)


def test_learning_rates_warm_up_and_follow_their_schedule():
    linear = [learning_rate(optimiser(), step, 10) for step in range(10)]
    assert linear[:2] == pytest.approx([0.1 / 3, 0.2 / 3]), "a fifth of ten steps"
    assert linear[2:] == pytest.approx([0.1 * (10 - step) / 8 for step in range(2, 10)])
    assert {learning_rate(optimiser(schedule="constant", warmup=0.0), s, 10) for s in range(10)} == {0.1}
    falling = optimiser(schedule="inverse_sqrt", warmup=0.0, decay_after=4)
    assert [learning_rate(falling, s, 100) for s in (0, 4, 16, 64)] == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_the_average_is_short_at_first_and_then_a_share_of_the_run():
    assert [ema_decay(optimiser(), s, 1000) for s in (0, 10, 989)] == pytest.approx([0.1, 11 / 20, 0.99])
    assert ema_decay(optimiser(ema=0.5), 10**6, 1000) == pytest.approx(1 - 1 / 500)
    assert ema_decay(optimiser(ema=0.0), 100, 1000) == 0, "no average at all"


class Settings:
    steps, lr, seed = 40, 0.1, 0


def trainer(path: Path, steps: int = 40) -> Trainer:
    torch.manual_seed(0)
    settings = Settings()
    settings.steps = steps
    return Trainer(path, nn.Linear(2, 1), settings, "cpu", ("loss",))


def test_a_preparations_rate_rises_falls_and_ends_at_nothing(tmp_path):
    own, rates = trainer(tmp_path / "one.safetensors"), []

    def step():
        loss = own.state.networks["network"](torch.ones(1, 2)).square().mean() * 1e6
        own.descend(loss)
        rates.append(own.optimiser.param_groups[0]["lr"])
        norm = torch.cat([w.grad.flatten() for w in own.state.weights["network"]]).norm()
        assert float(norm) <= 1.001, "gradients are clipped"
        return {"loss": loss}

    own.advance(40, step, "test")
    assert rates[0] == pytest.approx(0.1 / 2) and rates[1] == pytest.approx(0.1 * (1 - 1 / 40))
    assert rates[20] == pytest.approx(0.05) and rates[-1] == pytest.approx(0.1 / 40)


def test_the_state_of_another_preparation_is_refused_under_its_name(tmp_path):
    first, second = tmp_path / "a-1.safetensors", tmp_path / "a-2.safetensors"
    own = trainer(first)
    own.advance(7, lambda: {"loss": torch.ones(())}, "test")
    assert trainer(first).state.step == 7
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="a-2.safetensors belongs to another training, a-1: delete it"):
        trainer(second)
    with pytest.raises(CheckpointError, match="of this training: it stands at step 7 of 5; delete it"):
        trainer(first, 5)
    tensors, info = load_checkpoint(first)
    save_checkpoint(first, tensors, info | {"step": -1})
    with pytest.raises(CheckpointError, match="it stands at step -1 of 40; delete it"):
        trainer(first)


def test_how_work_is_shared_out_is_in_no_fingerprint(job):
    """A change of how processes are started trains nothing anew."""
    counted = set(closure(job.modules))
    assert {"fewstep.training.precision", "fewstep.training.processes"} <= counted
    assert not counted & {"fewstep.training.pool", "fewstep.training.train"}
    assert replace(job, state=Path("elsewhere"), device="cuda").fingerprint() == job.fingerprint()


def test_the_options_of_objectives_have_their_published_defaults():
    """A row of a table that names no option stands for these."""
    published = {
        "emd": {"gradient": "semi"}, "esd": {"stopped": None, "gradient": "semi"}, "lsd": {"stopped": None},
        "eulerian": {"invertibility": 0.0}, "fmm": {"invertibility": 1.0}, "lmd": {"gradient": "full"},
        "pfmm": {"jumps": 2}, "psd": {"stopped": None, "split": "midpoint"},
        "reflow": {"steps": 8, "times": 1}, "si": {}, "imeanflow": {}, "contrastive": {"weight": 0.05},
        "consistency": {"normalise": 0.0, "warmup": 0.0}, "meanflow": {"normalise": 0.0, "warmup": 0.0},
        "discrete_consistency": {"stopped": None, "h": 0.5, "halvings": 7, "solver": "heun", "c": 0.0},
        "consistency_training": {"stopped": None, "h": 0.5, "halvings": 7, "c": 0.0},
        "ctm": {"stopped": None, "steps": 4}, "imm": {"stopped": None, "h": 0.1, "c": 1.0},
        "velocity_consistency": {
            "segments": 2, "delta": 0.001, "alpha": 1e-05, "threshold": 0.9, "warmup": 1 / 3,
        },
    }  # fmt: skip
    found = {}
    for name in objectives.names():
        parameters = inspect.signature(objectives.load(name)).parameters.values()
        found[name] = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert found == published
