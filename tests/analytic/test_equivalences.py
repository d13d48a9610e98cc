"""What the objectives are to one another, on values and gradients of a network rather than by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewstep.flows.flow_map import EulerMap, FlowMap
from fewstep.flows.interpolants import STOCHASTIC
from fewstep.flows.samplers import euler
from fewstep.objectives import bind, check_options, load, names, needs_teacher
from fewstep.objectives.common import squared_norm
from fewstep.objectives.consistency import consistency
from fewstep.objectives.emd import emd
from fewstep.objectives.esd import esd
from fewstep.objectives.eulerian import eulerian
from fewstep.objectives.fmm import fmm
from fewstep.objectives.lmd import lmd
from fewstep.objectives.lsd import lsd
from fewstep.objectives.meanflow import meanflow
from fewstep.objectives.pfmm import pfmm
from fewstep.objectives.psd import psd
from fewstep.objectives.si import si

from .exact import Opaque, close, gradient, network_batch

OBJECTIVES = (
    "si", "lmd", "emd", "fmm", "pfmm", "eulerian", "lsd", "esd", "psd", "consistency", "meanflow",
    "imeanflow", "contrastive", "velocity_consistency", "discrete_consistency",
    "consistency_training", "ctm", "imm",
)  # fmt: skip


def same(student, one, other, tolerance: float = 1e-11) -> None:
    """Two residuals agree sample by sample and in the gradient of their mean, which is not zero."""
    close(one, other, tolerance)
    a, b = gradient(one, student), gradient(other, student)
    assert a.norm() > 1e-3
    close(a, b, tolerance)


class Constant(FlowMap):
    """A velocity that does not look at its point."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def velocity(self, t, x):
        return self.value


# Consistency ------------------------------------------------------------------------------------------------


def discrete_consistency(student, batch, teacher, h):
    """|X_{s,t}(x_s) - sg X_{s+h,t}(x_s + h b_s)|^2 / (h (t - s)), by its definition."""
    start = batch.at(batch.s).point
    with torch.no_grad():
        target = student.jump(batch.s + h, batch.t, start + h * teacher.velocity(batch.s, start))
    return squared_norm(student.jump(batch.s, batch.t, start) - target) / (h * (batch.t - batch.s))


def test_consistency_is_the_limit_of_discrete_consistency_distillation(student, teacher, batch):
    limit = gradient(consistency(student, batch, teacher), student)
    error = [
        (gradient(discrete_consistency(student, batch, teacher, h), student) - limit).norm()
        for h in (1e-4, 1e-5)
    ]
    assert error[1] < 1e-3 * limit.norm()
    assert 9 < error[0] / error[1] < 11


@pytest.mark.parametrize("kind", ["full", "semi"])
def test_consistency_has_emds_value_and_another_gradient(student, teacher, batch, kind):
    mine, theirs = consistency(student, batch, teacher), emd(student, batch, teacher, kind)
    close(mine, theirs, 1e-11)
    a, b = gradient(mine, student), gradient(theirs, student)
    assert (a - b).norm() > 0.1 * a.norm()


@pytest.mark.parametrize("kind", ["full", "semi"])
def test_what_emds_gradient_has_beyond_consistencys(student, teacher, batch, kind):
    """EMD's residual is r = -v + (t - s) (d_s v + grad v . b) + b. Consistency learns from v alone; EMD's
    literal semigradient from (t - s) d_s v as well, and its full gradient from (t - s) grad v . b on top."""
    start = batch.at(batch.s).point
    b = teacher.velocity(batch.s, start)
    one, zero = torch.ones_like(batch.s), torch.zeros_like(batch.s)
    direction = b if kind == "full" else torch.zeros_like(b)
    _, slope = student.average_velocity_pushforward(batch.s, batch.t, start, one, zero, direction)
    residual = student.jump_following(batch.s, batch.t, start, b).tangent.detach()
    beyond = (2 * residual * (batch.t - batch.s)[:, None] * slope).sum(1)
    difference = gradient(emd(student, batch, teacher, kind), student) - gradient(
        consistency(student, batch, teacher), student
    )
    close(difference, gradient(beyond, student), 1e-10)
    assert difference.norm() > 1e-2


def test_meanflow_is_consistency_along_the_interpolant(student, batch):
    same(student, meanflow(student, batch), consistency(student, batch, Constant(batch.at(batch.s).velocity)))


def test_meanflow_and_fmm_on_the_diagonal_are_the_velocity_loss(student):
    for batch in (network_batch(), network_batch(STOCHASTIC)):
        diagonal = replace(batch, s=batch.t)
        velocity = si(student, diagonal)
        same(student, meanflow(student, diagonal), velocity)
        same(student, fmm(student, diagonal), velocity)


def test_eulerian_estimation_on_the_diagonal_has_the_velocity_losss_value(student, batch):
    diagonal = replace(batch, s=batch.t)
    close(eulerian(student, diagonal), si(student, diagonal), 1e-11)


# Self-distillation is distillation with a frozen copy -------------------------------------------------------


def test_lsd_is_lmds_semigradient(student, frozen, batch):
    same(student, lsd(student, batch), lmd(student, batch, frozen, "semi"))


def test_esd_is_emds_semigradient(student, frozen, batch):
    same(student, esd(student, batch), emd(student, batch, frozen, "semi"))


def test_esds_full_gradient_is_emds(student, frozen, batch):
    same(student, esd(student, batch, gradient="full"), emd(student, batch, frozen, "full"))


def test_self_distillation_reads_the_stopped_map_that_it_is_given(student, teacher, batch):
    same(student, lsd(student, batch, teacher), lmd(student, batch, teacher, "semi"))
    same(student, esd(student, batch, teacher, gradient="full"), emd(student, batch, teacher, "full"))
    same(
        student,
        psd(student, batch, teacher),
        pfmm(student, batch, teacher, jumps=2) / (batch.t - batch.s) ** 2,
    )
    start = batch.at(batch.s).point
    transport = teacher.jump_along(batch.s, batch.t, start, teacher.velocity(batch.s, start)).tangent
    moved = student.jump_ds(batch.s, batch.t, start).tangent + transport
    same(student, esd(student, batch, teacher), squared_norm(moved))


def test_psd_at_the_midpoint_is_pfmm_with_two_jumps(student, frozen, batch):
    same(
        student,
        psd(student, batch, split="midpoint"),
        pfmm(student, batch, frozen, jumps=2) / (batch.t - batch.s) ** 2,
    )


def test_psd_at_g_is_the_semigroup_at_that_time(student, frozen, batch):
    s, t, start = batch.s, batch.t, batch.at(batch.s).point
    u = batch.g * s + (1 - batch.g) * t
    target = frozen.jump(u, t, frozen.jump(s, u, start))
    same(
        student,
        psd(student, batch, split="uniform"),
        squared_norm(student.jump(s, t, start) - target) / (t - s) ** 2,
    )
    half = replace(batch, g=torch.full_like(batch.g, 0.5))
    same(student, psd(student, half, split="uniform"), psd(student, batch, split="midpoint"))


# LMD and PFMM -----------------------------------------------------------------------------------------------


def test_lmds_two_gradients_differ_by_what_flows_through_the_teacher(student, teacher, batch):
    full, semi = lmd(student, batch, teacher, "full"), lmd(student, batch, teacher, "semi")
    close(full, semi, 0)
    jump = student.jump_dt(batch.s, batch.t, batch.at(batch.s).point)
    residual = (jump.tangent - teacher.velocity(batch.t, jump.point)).detach()
    through = (-2 * residual * teacher.velocity(batch.t, jump.point)).sum(1)
    difference = gradient(full, student) - gradient(semi, student)
    close(difference, gradient(through, student), 1e-11)
    assert difference.norm() > 1e-2


def test_lmds_two_gradients_agree_for_a_teacher_without_a_gradient(student, batch):
    constant = Constant(torch.ones_like(batch.x0))
    same(student, lmd(student, batch, constant, "full"), lmd(student, batch, constant, "semi"))


@pytest.mark.parametrize("jumps", [1, 3])
def test_pfmm_of_euler_steps_matches_the_euler_sampler(student, teacher, batch, jumps):
    whole = replace(batch, s=torch.zeros_like(batch.s), t=torch.ones_like(batch.t))
    target = euler(teacher, batch.x0, jumps).points
    mine = squared_norm(student.jump(whole.s, whole.t, batch.x0) - target)
    same(student, pfmm(student, whole, EulerMap(teacher), jumps), mine)


# Stop-gradients and the registry ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [
        ("emd", {"gradient": "full"}),
        ("emd", {"gradient": "semi"}),
        ("consistency", {}),
        ("pfmm", {}),
        ("lmd", {"gradient": "value"}),
        ("discrete_consistency", {}),
        ("ctm", {}),
    ],
)
def test_a_teacher_that_learns_gets_no_gradient(student, teacher, batch, name, options):
    teacher.requires_grad_(True)
    assert not gradient(bind(name, options, teacher)(student, batch), teacher).any()


@pytest.mark.parametrize("residual", [fmm, eulerian])
def test_invertibility_is_weighed_on_its_own(student, batch, residual):
    back = student.jump(batch.t, batch.s, batch.at(batch.t).point)
    closed = squared_norm(student.jump(batch.s, batch.t, back) - batch.at(batch.t).point)
    same(
        student,
        residual(student, batch, invertibility=2.0) - residual(student, batch, invertibility=0.0),
        2 * closed,
    )


def test_the_squared_norm_sums_over_everything_but_the_batch():
    close(
        squared_norm(torch.full((3, 2, 4, 5), 0.5, dtype=torch.float64)),
        torch.full((3,), 10.0, dtype=torch.float64),
        0,
    )


def test_the_networks_own_pushforward_changes_no_objective(student, teacher, batch):
    plain = type(student)(Opaque(student.network))
    for name in OBJECTIVES:
        own, general = (bind(name, {}, teacher)(flow_map, batch) for flow_map in (student, plain))
        assert own.shape == batch.s.shape
        same(student, own, general)


def test_the_registry_names_what_is_wrong(student, batch, teacher):
    assert set(OBJECTIVES) <= set(names())
    assert {n for n in names() if needs_teacher(n)} >= {"lmd", "emd", "pfmm", "consistency"}
    assert not needs_teacher("fmm") and not needs_teacher("lsd")
    with pytest.raises(ValueError, match="there is no objective 'lmdd'"):
        load("lmdd")
    with pytest.raises(ValueError, match="has no setting 'jump'; it has jumps"):
        check_options("pfmm", {"jump": 2})
    with pytest.raises(ValueError, match="'lmd' distils a teacher"):
        bind("lmd", {}, None)
    with pytest.raises(ValueError, match="gradient must be one of full, semi, value, not 'half'"):
        lmd(student, batch, teacher, "half")
    for residual, other in ((emd, "half"), (esd, "value")):
        with pytest.raises(ValueError, match=f"gradient must be one of full, semi, not '{other}'"):
            residual(student, batch, teacher, other)
    with pytest.raises(ValueError, match="split must be one of midpoint, uniform, not 'third'"):
        psd(student, batch, split="third")
    with pytest.raises(ValueError, match="jumps must be at least 1, not 0"):
        pfmm(student, batch, teacher, 0)


def test_a_function_that_is_not_named_as_its_file_is_one_sentence(monkeypatch):
    monkeypatch.delattr("fewstep.objectives.lmd.lmd")
    with pytest.raises(ValueError, match=r"objectives/lmd\.py defines no function 'lmd'"):
        load("lmd")
