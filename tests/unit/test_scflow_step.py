"""One step of SCFlow's loop: what is drawn, the weights of its losses, and in which order networks learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from fewstep.flows.conditioning import Conditions
from fewstep.objectives.scflow import losses
from fewstep.objectives.scflow.reversed_time import Reversed, between
from fewstep.settings.training import Method, SelfCorrection
from fewstep.training.job import Job
from fewstep.training.loops import scflow as loop
from fewstep.training.processes import Processes

ALL = {
    "threshold": 0.1, "truncation": 0.4, "reflow": {"weight": 0.3}, "bidirectional": {"weight": 0.7},
    "adversarial": {"weight": 0.05, "lr": 1e-2, "r1": 1.0, "channels": [8, 8]},
}  # fmt: skip


@dataclass(frozen=True)
class Captioned:
    """Zeros whose captions are ones, but for the empty one, which is zeros."""

    scale: float = 1.0
    shape: tuple[int, ...] = (1, 8, 8)
    conditional: bool = True
    empty = Conditions(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        mask = torch.ones(count, 2, dtype=torch.bool)
        return torch.zeros(count, *self.shape), Conditions(torch.ones(count, 2, 3), mask)


@pytest.fixture
def learner(smoke, tmp_path):
    """learner(batch, settings of the method, **changes of ALL): the loop of a run that has not begun."""
    shared = smoke.experiment("fmm-cifar10").training

    def make(batch: int = 4, own: dict | None = None, **changes: object) -> loop.Loop:
        chosen = {key: value for key, value in (ALL | changes).items() if value is not None}
        method = Method(
            label="SCFlow", steps=8, teacher="si", start="teacher", self_correction=chosen, **(own or {})
        )
        job = Job(shared.model_copy(update={"batch": batch}), method, 0, tmp_path / "state")
        teacher = job.fresh().requires_grad_(False)
        # an untrained network ends in zeros
        torch.nn.init.normal_(
            teacher.network.model.conv_out.weight, std=0.1, generator=torch.Generator().manual_seed(1)
        )
        return loop.Loop(job, loop.start(job, teacher), teacher, Processes())

    return make


def logged(learner: loop.Loop) -> dict[str, float]:
    return dict(zip(learner.state.columns, learner.state.log[learner.state.step - 1].tolist(), strict=True))


def test_the_loss_is_the_sum_of_its_parts_by_their_weights(learner):
    own = learner()
    own.step()
    row = logged(own)
    parts = {"consistency": 1.0, "reflow": 0.3, "bidirectional": 0.7, "adversarial": 0.05}
    assert all(row[name] > 1e-5 for name in parts) and row["discriminator"] > 0
    assert row["loss"] == pytest.approx(sum(w * row[name] for name, w in parts.items()), rel=1e-5)


def test_a_weight_is_that_of_its_own_loss(learner):
    """Ten times the weight of one loss adds nine times its part to the sum, whichever it is."""
    first = learner()
    first.step()
    before = logged(first)
    for name, weight in (("reflow", 3.0), ("bidirectional", 7.0), ("adversarial", 0.5)):
        own = learner(**{name: ALL[name] | {"weight": weight}})
        own.step()
        more = logged(own)["loss"] - before["loss"]
        assert more == pytest.approx(0.9 * weight * before[name], rel=1e-3), name


def test_threshold_truncation_and_huber_constant_reach_the_loss(learner):
    own = learner(threshold=0.9, truncation=0.6, huber_c=0.5)
    draw = own._draw()
    terms, one_step, moved = own._losses(draw)
    teacher, student, target = own._reversed(None)
    z, t = between(draw.z0, draw.z1, draw.t), draw.t
    move = losses.moves(teacher, z, t, draw.u_down, draw.u_up, 0.9)
    down, up = target.f(move.down, move.t_down), target.f(move.up, move.t_up)
    expected = {
        "consistency": losses.truncated_consistency(student.f(z, t), draw.z0, down, move.t_down, 0.6, 0.5),
        "bidirectional": losses.bidirectional_consistency(student.f(z, t), up, 0.5),
        "reflow": losses.reflow(student, student.f(draw.z1, torch.ones_like(t)), draw.z1, t),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one_step, student.f(draw.z1, torch.ones_like(t)), rtol=1e-4, atol=1e-5)
    assert torch.equal(moved, move.t_down)


def test_networks_are_told_whole_parts_of_one_and_points_move_all_the_way(learner, monkeypatch):
    """As the released text to image: the teacher's move is not rounded, the target's time is, downwards."""
    own, told = learner(300, time_levels=10, threshold=0.5, truncation=0.35), []
    own.state.networks[loop.TARGET].network.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    draw = own._draw()
    times = draw.t * 10
    torch.testing.assert_close(times, times.round(), rtol=0, atol=1e-5)
    assert {round(float(k)) for k in times} == set(range(10))
    seen, consistent = [], losses.truncated_consistency
    monkeypatch.setattr(
        losses, "truncated_consistency", lambda *given: seen.append(given[3]) or consistent(*given)
    )
    *_, moved = own._losses(draw)
    z = between(draw.z0, draw.z1, draw.t)
    move = losses.moves(own._reversed(None)[0], z, draw.t, draw.u_down, draw.u_up, 0.5)
    assert torch.equal(seen[0], move.t_down), "whether the data are the target is not rounded"
    assert torch.equal(moved, (move.t_down * 10).floor() / 10)
    both = torch.cat([move.t_down, move.t_up])
    torch.testing.assert_close(1 - told[0], (both * 10).floor() / 10, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_noise_has_the_scale_of_the_data(learner, scale):
    """A flow that starts from another deviation than its samples will is another flow."""
    own, other = learner(200), learner(200)
    own.source, other.source = Captioned(), Captioned(scale)
    torch.testing.assert_close(other._draw().z1, scale * own._draw().z1)
    assert 0.9 * scale < float(other._draw().z1.std()) < 1.1 * scale


@pytest.mark.parametrize("dropout, least, most", [(None, 0.0, 0.0), (0.1, 0.05, 0.15), (0.5, 0.42, 0.58)])
def test_the_share_of_captions_that_is_dropped_is_the_setting(learner, dropout, least, most):
    own = learner(600, {"conditioning_dropout": dropout} if dropout else None)
    own.source = Captioned()
    texts = own._draw().texts
    empty = (texts.hidden == 0).all((1, 2))
    assert bool((empty | (texts.hidden == 1).all((1, 2))).all()), "a caption is dropped whole or not at all"
    assert least <= float(empty.float().mean()) <= most


def test_a_discriminator_of_noised_latents_looks_at_all_times_with_noise_of_its_own(learner):
    own = learner(600)
    own.source = Captioned()
    assert own._draw().noised is None, "one of clean latents gets none"
    adversarial = own.settings.adversarial.model_copy(update={"head": 8, "channels": None})
    own.settings = own.settings.model_copy(update={"adversarial": adversarial})
    drawn = own._draw()
    times, noise = drawn.noised
    for decile in range(10):
        share = ((times >= decile / 10) & (times < (decile + 1) / 10)).float().mean()
        assert 0.06 < float(share) < 0.14, f"times near {decile / 10}"
    assert noise.shape == drawn.z0.shape and 0.95 < float(noise.std()) < 1.05
    for other in (drawn.t, drawn.u_down, drawn.u_up):
        assert abs(float(torch.corrcoef(torch.stack([times, other]))[0, 1])) < 0.15
    assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), drawn.z1.flatten()]))[0, 1])) < 0.05
    # and looks at them with the captions of the step, at the student with the same noise
    own.state.networks[loop.DISCRIMINATOR] = SimpleNamespace(at=lambda *given: given)
    for judges in (False, True):
        given = own._discriminator(drawn, judges)
        assert given[0] is times and given[1] is noise and given[2] is drawn.texts


def test_the_released_discriminator_sees_the_moves_times_and_judges_with_other_noise(learner, monkeypatch):
    own, seen = learner(64), []
    own.source = Captioned()
    adversarial = own.settings.adversarial.model_copy(update={"head": 8, "channels": None, "released": True})
    own.settings = own.settings.model_copy(update={"adversarial": adversarial, "bidirectional": None})
    critic = own.state.networks[loop.DISCRIMINATOR]
    critic.at = lambda *given: seen.append(given) or critic
    monkeypatch.setattr(loop, "conditioned", lambda flow, *_: flow)
    drawn, moved, losses_of = [], [], own._losses
    own._draw = lambda draw=own._draw: drawn.append(draw()) or drawn[-1]
    own._losses = lambda draw: moved.append(losses_of(draw)) or moved[-1]
    own.step()
    first, second = drawn[0].noised[1:]
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.1
    (times, noise, _), (again, other, _) = seen
    assert noise is first and other is second
    assert torch.equal(times, moved[0][2]) and torch.equal(again, times)


def test_the_discriminators_second_beta_is_the_setting(learner):
    for beta2, betas in ((None, (0.9, 0.99)), (0.999, (0.9, 0.999))):
        own = learner(adversarial=ALL["adversarial"] | ({"beta2": beta2} if beta2 else {}))
        assert own.state.optimisers[loop.DISCRIMINATOR].param_groups[0]["betas"] == betas


def test_all_that_is_drawn_is_shared_out_alike(learner):
    """Of two processes the second has the second half of everything, also of noised latents and captions."""
    own = learner(6)
    own.source = Captioned()
    adversarial = own.settings.adversarial.model_copy(update={"head": 8, "channels": None})
    own.settings = own.settings.model_copy(update={"adversarial": adversarial})
    texts = Conditions(torch.randn(6, 2, 3), torch.rand(6, 2) < 0.5)
    whole = replace(own._draw(), texts=texts)
    part = whole.part(3, 6)
    assert torch.equal(part.texts.mask, texts.mask[3:])
    assert torch.equal(part.noised[0], whole.noised[0][3:]) and torch.equal(
        part.noised[1], whole.noised[1][3:]
    )
    assert torch.equal(part.texts.hidden, whole.texts.hidden[3:]) and torch.equal(part.t, whole.t[3:])
    assert torch.equal(part.u_down, whole.u_down[3:]) and torch.equal(part.u_up, whole.u_up[3:])


def test_the_student_is_judged_by_the_discriminator_that_has_just_learned(learner, monkeypatch):
    own, seen = learner(), []
    true = losses.adversarial
    before = {k: v.clone() for k, v in own.state.networks[loop.DISCRIMINATOR].state_dict().items()}

    def adversarial(critic, one_step):
        seen.append(one_step.detach())
        return true(critic, one_step)

    monkeypatch.setattr(losses, "adversarial", adversarial)
    own.step()
    critic = own.state.networks[loop.DISCRIMINATOR]
    assert any(not torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    with torch.no_grad():
        assert logged(own)["adversarial"] == pytest.approx(float(softplus(-critic(seen[0])).mean()), rel=1e-4)
    # and its weights do not follow the student's loss
    assert not any(weight.requires_grad for weight in critic.parameters())


def test_the_target_follows_the_student_by_its_own_decay(learner):
    own = learner(target_ema=0.25)
    first = {name: value.clone() for name, value in own.teacher.state_dict().items()}
    own.step()
    student, target = (own.state.networks[name].state_dict() for name in ("student", "target"))
    for name, value in first.items():
        torch.testing.assert_close(target[name], 0.25 * value + 0.75 * student[name], rtol=1e-5, atol=1e-7)


def test_the_teacher_stays_as_it_was_and_time_is_reversed(learner):
    own = learner(adversarial=None)
    before = {name: value.clone() for name, value in own.teacher.state_dict().items()}
    own.step()
    assert all(torch.equal(value, before[name]) for name, value in own.teacher.state_dict().items())
    assert all(isinstance(flow, Reversed) for flow in own._reversed(None))


def test_the_defaults_are_those_of_the_paper():
    """arXiv 2412.16906: c of the pseudo-Huber distance, the target's decay; losses from the first step."""
    own = SelfCorrection(threshold=0.1, truncation=0.4, reflow={"weight": 1.0})
    assert (own.huber_c, own.target_ema, own.reflow.warmup) == (0.01, 0.9, 0)
    assert own.adversarial is None and own.bidirectional is None
    critic = SelfCorrection.model_validate(ALL).adversarial
    assert (critic.schedule, critic.beta1, critic.warmup, critic.head) == ("constant", 0.9, 0, None)
