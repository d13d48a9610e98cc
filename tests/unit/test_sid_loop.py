"""The loop of score identity distillation: its start, its two networks, resumption, settings."""

import pytest
import torch

from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.interpolants import INTERPOLANTS
from fewstep.networks import load_flow_map
from fewstep.settings.experiment import caption_problems
from fewstep.settings.training import Method
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.training import calls, train
from fewstep.training import job as run
from fewstep.training.loops import sid as loop
from fewstep.training.processes import Processes

OWN = {"label": "SiD", "teacher": "si", "start": "teacher", "distribution_matching": {"lr": 0.005}}


@pytest.fixture(scope="module")
def job(smoke, tmp_path_factory):
    """job(name, steps): a run on the checkerboard; all from one teacher."""
    folder, settings = tmp_path_factory.mktemp("sid"), smoke.experiment("zoo-checkerboard")
    shared = settings.training.model_copy(update={"batch": 32})
    own = settings.method("si").model_copy(update={"steps": 6})
    teacher = run.Job(shared, own, 3, folder / "si.state")
    run.advance(teacher, "mark", 6)
    train.publish(teacher, "mark", folder / "teacher.safetensors")

    def made(name: str, steps: int = 8, **changes) -> run.Job:
        method = Method.model_validate(OWN | {"steps": steps} | changes)
        return run.Job(shared, method, 0, folder / f"{name}.state", folder / "teacher.safetensors")

    return made


def begun(job: run.Job, teacher=None) -> tuple:
    teacher = teacher or load_flow_map(job.teacher)
    state = loop.start(job, load_flow_map(job.teacher))
    return state, loop.Loop(job, state, teacher, Processes())


def test_a_run_in_pieces_is_the_run_in_one_go(job):
    whole, pieces = job("whole"), job("pieces")
    run.advance(whole, "mark", 8)
    for until in (1, 2, 5, 8):
        run.advance(pieces, "mark", until)
    assert whole.state.read_bytes() == pieces.state.read_bytes()
    names = load_checkpoint(whole.state)[0]
    for part in ("student.", "ema.", "fake.", "optimiser.student.", "optimiser.fake.", "generator", "log"):
        assert any(name.startswith(part) for name in names), part


def test_all_networks_start_from_the_teachers_weights(job):
    teacher = load_flow_map(job("start").teacher).state_dict()
    state = begun(job("start"))[0]
    for name in ("student", "ema", "fake"):
        own = state.networks[name].state_dict()
        assert all(torch.equal(own[key], value) for key, value in teacher.items()), name
    assert len({id(weight) for own in state.weights.values() for weight in own}) == 3 * len(teacher)


def test_each_network_learns_from_its_own_loss(job):
    """A step moves both; without a step size of its own the second one stays, and the student moves."""
    for lr, moves in ((0.005, True), (1e-30, False)):
        one = job("losses", distribution_matching={"lr": lr})
        state, steps = begun(one)
        before = {name: [w.clone() for w in own] for name, own in state.weights.items()}
        steps.step()
        steps.step()
        moved = {n: any(not torch.equal(a, b) for a, b in zip(before[n], state.weights[n])) for n in before}
        assert moved == {"student": True, "ema": True, "fake": moves}
        assert not any(weight.requires_grad for weight in state.weights["fake"])
        # the second network is the teacher at first, and the student's loss is then zero
        assert (state.log[0, 0] == 0) == (not moves)


def test_the_second_network_learns_first_and_from_the_students_samples(job, monkeypatch):
    seen, si, score = [], loop.si, loop.score_identity

    def watched_si(fake, batch):
        seen.append(("fake", batch.x1))
        return si(fake, batch)

    def watched_score(teacher, fake, x, *rest):
        seen.append(("student", x))
        return score(teacher, fake, x, *rest)

    monkeypatch.setattr(loop, "si", watched_si)
    monkeypatch.setattr(loop, "score_identity", watched_score)
    state, steps = begun(job("order"))
    steps.step()
    (first, samples), (second, again) = seen
    assert (first, second) == ("fake", "student") and torch.equal(samples, again)
    assert not samples.requires_grad and again.requires_grad


def test_samples_come_to_the_teachers_law(job):
    """The deviation of one step's samples, with a teacher whose velocity is that of N(0, 0.3^2)."""
    one = job("gaussian", steps=100)
    zero, eye = torch.zeros(2), torch.eye(2)
    law = GaussianFlow(zero, one.source.scale**2 * eye, zero, 0.3**2 * eye, INTERPOLANTS["linear"])
    state, steps = begun(one, law)
    noise = one.source.scale * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))

    def deviation() -> float:
        with torch.no_grad():
            ends = state.networks["ema"].jump(torch.zeros(2000), torch.ones(2000), noise)
        return float(ends.std())

    far = abs(deviation() - 0.3)
    for _ in range(100):
        steps.step()
    assert abs(deviation() - 0.3) < 0.1 < far


def test_two_processes_share_out_a_batch(job):
    one = job("share")
    teacher = load_flow_map(one.teacher)
    drawn = [
        loop.Loop(one, loop.start(one, teacher), teacher, Processes(rank, count))._draw()
        for rank, count in ((0, 1), (0, 2), (1, 2))
    ]
    for whole, first, second in zip(*(noise + times for noise, times in drawn)):
        assert torch.equal(whole, torch.cat([first, second]))
    with pytest.raises(ValueError, match="33 processes cannot share a batch of 32"):
        loop.Loop(one, loop.start(one, teacher), teacher, Processes(0, 33))


def test_no_data_are_seen(job, monkeypatch):
    one = job("blind")
    state, steps = begun(one)
    monkeypatch.setattr(type(one.source), "sample", lambda *words: pytest.fail("data were drawn"))
    steps.step()
    assert state.step == 1


def test_noise_has_the_scale_of_the_data(job):
    one = job("scale")
    (first, *_), _ = begun(one)[1]._draw()
    expected = torch.randn(first.shape, generator=torch.Generator().manual_seed(one.seed))
    assert one.source.scale != 1 and torch.equal(first, expected * one.source.scale)


def test_its_calls_are_counted(job):
    """The student once, the second network for its loss and for the student's, the teacher once."""
    assert calls.calls_a_step(job("calls")) == (4.0, 0.0)


def test_the_settings_of_its_loss_are_used(job):
    states = []
    for alpha in (0.5, 1.2):
        state, steps = begun(job("alpha", distribution_matching={"lr": 0.005, "alpha": alpha}))
        steps.step()
        states.append(float(state.log[0, 0]))
    assert states[0] != states[1]
    kept = loop.start(
        job("momentum", distribution_matching={"lr": 0.005, "beta1": 0.0}), load_flow_map(job("x").teacher)
    )
    assert kept.optimisers["fake"].param_groups[0]["betas"][0] == 0.0
    assert kept.optimisers["fake"].param_groups[0]["lr"] == 0.005


def test_captions_are_refused(smoke):
    """It draws no data, which is where captions come from."""
    own = smoke.experiment("scflow-coco2017")
    latents, clip = smoke.latents["laion"], smoke.clip["captions"]
    method = Method.model_validate(OWN | {"steps": 8})
    told = own.model_copy(update={"methods": own.methods | {"scflow": method}})
    (problem,) = caption_problems(told, latents, clip, smoke.features["coco2017"])
    assert problem.startswith("`methods.scflow.distribution_matching` draws no data")
    assert not list(caption_problems(own, latents, clip, smoke.features["coco2017"]))
