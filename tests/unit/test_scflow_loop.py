"""The loop of self-corrected distillation: its start, resumption, and defects of the official release."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from fewstep.networks import load_flow_map
from fewstep.objectives.scflow import losses
from fewstep.objectives.scflow.reversed_time import Reversed, between
from fewstep.settings.training import Method, SelfCorrection, Training
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.training import job as run
from fewstep.training import train
from fewstep.training.loops import scflow as loop
from fewstep.training.loops.update import ema_decay
from fewstep.training.processes import Processes
from fewstep.training.state import NORM

STEPS = 8
CONDITIONAL = {
    "threshold": 0.1, "truncation": 0.4,
    "reflow": {"weight": 0.1, "warmup": 2}, "bidirectional": {"weight": 0.1, "warmup": 3},
    "adversarial": {"weight": 0.1, "warmup": 1, "lr": 1e-3, "r1": 1.0, "channels": [8, 8]},
}  # fmt: skip


def told(**changes) -> dict:
    return {key: value for key, value in (CONDITIONAL | changes).items() if value is not None}


@pytest.fixture(scope="module")
def job(smoke, tmp_path_factory):
    """job(name, steps, training settings, **changes of CONDITIONAL): a run on the digits; one teacher."""
    folder = tmp_path_factory.mktemp("scflow")
    shared = smoke.experiment("fmm-cifar10").training.model_copy(update={"batch": 8})
    teacher = run.Job(
        shared,
        smoke.experiment("fmm-cifar10").method("si").model_copy(update={"steps": 6}),
        3,
        folder / "si.state",
    )
    run.advance(teacher, "mark", 6)
    train.publish(teacher, "mark", folder / "teacher.safetensors")

    def made(name: str, steps: int = STEPS, shared: Training = shared, **changes) -> run.Job:
        method = Method(
            label="SCFlow", steps=steps, teacher="si", start="teacher", self_correction=told(**changes)
        )
        return run.Job(shared, method, 0, folder / f"{name}.state", folder / "teacher.safetensors")

    return made


def tensors(job: run.Job, prefix: str) -> dict[str, torch.Tensor]:
    return {
        k.removeprefix(prefix): v for k, v in load_checkpoint(job.state)[0].items() if k.startswith(prefix)
    }


def test_a_run_in_pieces_is_the_run_in_one_go(job):
    whole, pieces = job("whole"), job("pieces")
    run.advance(whole, "mark", STEPS)
    for until in (1, 2, 3, 5, STEPS):
        run.advance(pieces, "mark", until)
    assert whole.state.read_bytes() == pieces.state.read_bytes()
    state = load_checkpoint(whole.state)[0]
    for part in (
        "student.",
        "ema.",
        "target.",
        "discriminator.",
        "optimiser.student.",
        "optimiser.discriminator.",
        "generator",
        "log",
    ):
        assert any(name.startswith(part) for name in state), part


def test_student_target_and_average_start_from_the_teachers_weights(job):
    one = job("start")
    teacher = load_flow_map(one.teacher).state_dict()
    state = loop.start(one, load_flow_map(one.teacher))
    for network in (state.networks[name] for name in ("student", "ema", "target")):
        assert all(torch.equal(value, teacher[name]) for name, value in network.state_dict().items())
    run.advance(one, "mark", 1)
    student, ema, target = (tensors(one, f"{name}.") for name in ("student", "ema", "target"))
    keep = ema_decay(one.optimiser, 0, STEPS)
    for name, first in teacher.items():
        torch.testing.assert_close(ema[name], keep * first + (1 - keep) * student[name], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(target[name], 0.9 * first + 0.1 * student[name], rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(student[name], value) for name, value in teacher.items())


def test_resuming_does_not_make_the_student_its_own_teacher(job, monkeypatch):
    """The moves are along the published teacher, before and after a run has been taken up again."""
    one, seen = job("teacher"), []
    before = losses.moves

    def watched(teacher: Reversed, *rest):
        seen.append({name: value.clone() for name, value in teacher.flow.state_dict().items()})
        return before(teacher, *rest)

    monkeypatch.setattr(losses, "moves", watched)
    run.advance(one, "mark", 2)
    run.advance(one, "mark", 4)
    published, student = load_flow_map(one.teacher).state_dict(), tensors(one, "student.")
    assert len(seen) == 4
    for weights in seen:
        assert all(torch.equal(value, published[name]) for name, value in weights.items())
    assert any(not torch.equal(published[name], value) for name, value in student.items())


def test_the_gradient_is_clipped_at_every_step(job, smoke, monkeypatch):
    """Plain gradient steps of rate 1: the weights move by the clipped gradient itself, at every step."""
    shared = job("x").training
    tight = shared.model_copy(
        update={
            "optimiser": shared.optimiser.model_copy(
                update={"clip_norm": 1e-3, "schedule": "constant", "warmup": 0.0, "lr": 1.0}
            )
        }
    )
    monkeypatch.setattr(
        loop.optimisers, "build", lambda kind, parameters, rate, decay: torch.optim.SGD(parameters, lr=rate)
    )
    one = job("clip", shared=tight, adversarial=None)
    last = load_flow_map(one.teacher).state_dict()
    for step in range(1, 6):
        run.advance(one, "mark", step)
        now = tensors(one, "student.")
        moved = sum((now[name] - last[name]).square().sum() for name in now).sqrt()
        assert float(moved) == pytest.approx(1e-3, rel=1e-2), step
        last = now
    # what is logged is the norm before the clip
    assert (tensors(one, "log")[""][:5, one_column(NORM)] > 1e-2).all()


def one_column(name: str) -> int:
    return ("loss", NORM, *loop.PARTS).index(name)


def test_losses_wait_for_their_warm_up_and_absent_ones_stay_zero(job):
    one, few = job("gates"), job("few", reflow=None, adversarial=None, bidirectional=None)
    for each in (one, few):
        run.advance(each, "mark", 5)
    log = {name: tensors(one, "log")[""][:5, one_column(name)] != 0 for name in loop.PARTS}
    assert log["consistency"].tolist() == [True] * 5
    assert log["adversarial"].tolist() == log["discriminator"].tolist() == [False] + [True] * 4
    assert log["reflow"].tolist() == [False, False, True, True, True]
    assert log["bidirectional"].tolist() == [False, False, False, True, True]
    absent = tensors(few, "log")[""][:5]
    assert (
        absent[:, [one_column(name) for name in loop.PARTS if name != "consistency"]] == 0
    ).all() and not tensors(few, "discriminator.")


def test_a_step_is_the_sum_of_its_losses(job):
    """The logged total, and its gradient, are those of the losses called one by one on the same draws."""
    one = job("sum", adversarial=None, reflow={"weight": 0.3}, bidirectional={"weight": 0.7})
    teacher = load_flow_map(one.teacher)
    state = loop.start(one, teacher)
    drawn = loop.Loop(one, state, teacher, Processes())._draw()
    state = loop.start(one, teacher)
    learner = loop.Loop(one, state, teacher, Processes())
    student, fixed, target = Reversed(one.fresh()), Reversed(teacher), Reversed(teacher)
    student.flow.load_state_dict(teacher.state_dict())
    z, t = between(drawn.z0, drawn.z1, drawn.t), drawn.t
    move = losses.moves(fixed, z, t, drawn.u_down, drawn.u_up, 0.1)
    predicted, one_step = student.f(z, t), student.f(drawn.z1, torch.ones_like(t))
    total = losses.truncated_consistency(
        predicted, drawn.z0, target.f(move.down, move.t_down), move.t_down, 0.4, 0.01
    )
    total = (
        total
        + 0.3 * losses.reflow(student, one_step, drawn.z1, t)
        + 0.7 * losses.bidirectional_consistency(predicted, target.f(move.up, move.t_up), 0.01)
    )
    total.mean().backward()
    learner.step()
    norm = torch.cat([p.grad.flatten() for p in student.flow.parameters() if p.grad is not None]).norm()
    assert float(state.log[0, 0]) == pytest.approx(float(total.detach().mean()), rel=1e-4)
    assert float(state.log[0, 1]) == pytest.approx(float(norm), rel=1e-3)


def test_networks_are_called_once_for_what_can_go_together(job, monkeypatch):
    one, calls = job("calls"), []
    kinds = {}

    def watched(self, z, t):
        calls.append((kinds[id(self.flow)], len(z)))
        return -self.flow.velocity(1 - t, z)

    monkeypatch.setattr(Reversed, "v", watched)
    teacher = load_flow_map(one.teacher)
    state = loop.start(one, teacher)
    kinds.update(
        {id(teacher): "teacher"} | {id(state.networks[name]): name for name in ("student", "target")}
    )
    state.step = 5  # all losses take part
    loop.Loop(one, state, teacher, Processes()).step()
    # the student at z_t with z_1, and on its own straight path; the teacher once; the target at both moves
    assert calls == [("teacher", 8), ("student", 16), ("target", 16), ("student", 8)]


def test_the_discriminator_learns_from_data_and_not_from_the_generators_loss(job):
    one = job("critic", adversarial={"weight": 5.0, "lr": 0.05, "r1": 0.0, "channels": [8, 8]}, steps=40)
    run.advance(one, "mark", 40)
    judged = tensors(one, "log")[""][:, one_column("discriminator")]
    assert judged[-5:].mean() < judged[:5].mean()
    assert all(value.isfinite().all() for value in tensors(one, "discriminator.").values())


def test_two_processes_share_out_a_batch(job):
    """Each takes whole samples of the one batch that both draw; their sums are the single process's."""
    one = job("share", adversarial=None)
    teacher = load_flow_map(one.teacher)
    drawn = [
        loop.Loop(one, loop.start(one, teacher), teacher, Processes(rank, count))._draw()
        for rank, count in ((0, 1), (0, 2), (1, 2))
    ]
    for name in ("z0", "z1", "t", "u_down", "u_up"):
        whole, first, second = (getattr(each, name) for each in drawn)
        assert torch.equal(whole, torch.cat([first, second])), name
    with pytest.raises(ValueError, match="9 processes cannot share a batch of 8"):
        loop.Loop(one, loop.start(one, teacher), teacher, Processes(0, 9))


def test_a_killed_run_ends_with_the_same_bits(job, tmp_path):
    """The process is SIGKILLed while it trains, several times; the state on disk is always whole."""
    whole, killed = (
        job("undisturbed", steps=60),
        replace(job("killed", steps=60), state=tmp_path / "killed.state"),
    )
    for until in range(5, 61, 5):
        run.advance(whole, "mark", until)
    code = (
        "from pathlib import Path\nfrom fewstep.training import job as run\n"
        "from fewstep.settings.training import Method, Training\n"
        f"training = Training.model_validate_json({killed.training.model_dump_json()!r})\n"
        f"method = Method.model_validate_json({killed.method.model_dump_json()!r})\n"
        "job = run.Job(training, method,"
        f" 0, Path({str(killed.state)!r}), Path({str(killed.teacher)!r}))\n"
        "for until in range(5, 61, 5):\n    run.advance(job, 'mark', until)\n"
    )
    kills = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
        before, deadline = (
            killed.state.stat().st_mtime_ns if killed.state.exists() else 0,
            time.monotonic() + 60,
        )
        while (
            process.poll() is None
            and time.monotonic() < deadline
            and (killed.state.stat().st_mtime_ns if killed.state.exists() else 0) == before
        ):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 3
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert killed.state.read_bytes() == whole.state.read_bytes()


def test_the_discriminators_momentum_is_a_setting(job):
    own = dict(CONDITIONAL["adversarial"]) | {"warmup": 0}
    with_momentum, without = (
        job(name, adversarial=own | {"beta1": momentum})
        for name, momentum in (("heavy", 0.9), ("light", 0.0))
    )
    for one, momentum in ((with_momentum, 0.9), (without, 0.0)):
        state = loop.start(one, load_flow_map(one.teacher))
        assert state.optimisers["discriminator"].param_groups[0]["betas"] == (momentum, 0.99)
        run.advance(one, "mark", 3)
    # Adam without momentum steps by the gradient's sign at first: its memory of the mean is the last
    # gradient alone
    heavy, light = (tensors(one, "discriminator.") for one in (with_momentum, without))
    assert any(not torch.equal(value, light[name]) for name, value in heavy.items())
    with pytest.raises(ValueError, match="less than 1"):
        told_wrong = told(adversarial=own | {"beta1": 1.0})
        Method(label="SCFlow", steps=1, teacher="si", start="teacher", self_correction=told_wrong)


@pytest.mark.parametrize("first", [0, 5])
def test_the_discriminators_step_size_can_follow_the_students(job, first):
    """Adam's first step without momentum moves every weight by the learning rate: in warm-up and in decay."""
    own = dict(CONDITIONAL["adversarial"]) | {"beta1": 0.0, "r1": 0.0, "warmup": first}
    shared = job("x").training
    optimiser = shared.optimiser.model_copy(update={"schedule": "linear", "warmup": 0.25})
    for schedule, share in (("constant", 1.0), ("student", {0: 1 / 3, 5: 1 / 2}[first])):
        one = job(
            f"{schedule}-{first}",
            shared=shared.model_copy(update={"optimiser": optimiser}),
            adversarial=own | {"schedule": schedule},
        )
        state = loop.start(one, load_flow_map(one.teacher))
        before = [weight.clone() for weight in state.networks["discriminator"].parameters()]
        run.advance(one, "mark", first + 1)
        after = tensors(one, "discriminator.")
        moves = [
            (after[name] - weight).abs().max()
            for (name, _), weight in zip(state.networks["discriminator"].named_parameters(), before)
        ]
        assert max(moves).item() == pytest.approx(share * own["lr"], rel=1e-3)
    assert "schedule" not in SelfCorrection.model_validate(told(adversarial=own)).model_dump()["adversarial"]
    with pytest.raises(ValueError, match="schedule"):
        SelfCorrection.model_validate(told(adversarial=own | {"schedule": "cosine"}))
