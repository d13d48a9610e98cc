"""Faults in objectives/: the losses."""

from . import Fault, within

STOPPED, LEARNED = "with torch.no_grad():\n        ", "with torch.enable_grad():\n        "

FAULTS: list[Fault] = [
    *within(
        "objectives/common.py",
        "equivalences",
        ("mean for sum in the squared norm", ".flatten(1).sum(1)", ".flatten(1).mean(1)"),
    ),
    *within(
        "objectives/si.py",
        "equivalences residuals_at_truth",
        ("velocity at s", "student.velocity(batch.t,", "student.velocity(batch.s,"),
    ),
    *within(
        "objectives/lmd.py",
        "equivalences residuals_at_truth",
        ("teacher asked at s", "teacher.velocity(batch.t, where)", "teacher.velocity(batch.s, where)"),
        (
            "teacher asked at the start",
            "teacher.velocity(batch.t, where)",
            "teacher.velocity(batch.t, batch.at(batch.s).point)",
        ),
        ("sign of the teacher", "jump.tangent - teacher", "jump.tangent + teacher"),
        ("semigradient not detached", "else jump.point.detach()", "else jump.point"),
        ("full gradient detached", "where = jump.point if", "where = jump.point.detach() if"),
    ),
    *within(
        "objectives/emd.py",
        "equivalences residuals_at_truth",
        ("sign of the transport", ".tangent + transport", ".tangent - transport"),
        ("transport not stopped", STOPPED + "transport", LEARNED + "transport"),
        ("teacher not stopped", STOPPED + "b = teacher", LEARNED + "b = teacher"),
        ("teacher asked at t", "teacher.velocity(batch.s, start)", "teacher.velocity(batch.t, start)"),
    ),
    *within(
        "objectives/esd.py",
        "equivalences",
        ("transport not stopped", STOPPED + "transport", LEARNED + "transport"),
        ("own diagonal not stopped", STOPPED + "b = frozen", LEARNED + "b = frozen"),
        ("own diagonal at t", "frozen.velocity(batch.s, start)", "frozen.velocity(batch.t, start)"),
        ("transport of the student", "frozen.jump_along", "student.jump_along"),
    ),
    *within(
        "objectives/lsd.py",
        "equivalences residuals_at_truth",
        ("own diagonal not stopped", STOPPED + "b = frozen", LEARNED + "b = frozen"),
        ("diagonal at s", ".velocity(batch.t, jump.point)", ".velocity(batch.s, jump.point)"),
    ),
    *within(
        "objectives/fmm.py",
        "equivalences residuals_at_truth",
        ("both jumps forwards", "student.jump(batch.t, batch.s,", "student.jump(batch.s, batch.t,"),
        ("interpolant at s", "path = batch.at(batch.t)", "path = batch.at(batch.s)"),
        ("derivative in s", "student.jump_dt(", "student.jump_ds("),
        ("inner jump stopped", "batch.t, back)", "batch.t, back.detach())"),
        ("invertibility left out", " + invertibility * returns", ""),
    ),
    *within(
        "objectives/eulerian.py",
        "equivalences residuals_at_truth",
        ("derivative in the end time", "student.jump_ds(", "student.jump_dt("),
        ("sign of dI", "there.tangent + path.velocity", "there.tangent - path.velocity"),
        ("weight of invertibility", "moves + invertibility *", "moves +"),
    ),
    *within(
        "objectives/consistency.py",
        "equivalences residuals_at_truth",
        ("target not stopped", " * dv).detach())", " * dv))"),
        ("all stopped but dv", "squared_norm(v - (drift + ", "squared_norm(v.detach() - (drift + "),
        ("sign of (t - s)", "per_sample(batch.t - batch.s, start)", "per_sample(batch.s - batch.t, start)"),
        ("derivative in t", "start, one, zero, drift)", "start, zero, one, drift)"),
    ),
    *within(
        "objectives/meanflow.py",
        "equivalences residuals_at_truth",
        ("interpolant at t", "batch.at(batch.s)", "batch.at(batch.t)"),
    ),
    *within(
        "objectives/pfmm.py",
        "equivalences residuals_at_truth",
        ("one jump too few", "in range(jumps)", "in range(jumps - 1)"),
        ("every jump from s", "batch.s + k * span,", "batch.s,"),
        ("teacher not stopped", "with torch.no_grad()", "with torch.enable_grad()"),
    ),
    *within(
        "objectives/psd.py",
        "equivalences residuals_at_truth",
        ("g and 1 - g exchanged in u", "u = g * s + (1 - g) * t", "u = (1 - g) * s + g * t"),
        ("target not stopped", "with torch.no_grad()", "with torch.enable_grad()"),
        ("second jump from the start", "start + per_sample(u - s, start) * first", "start"),
        ("second jump from s", "average_velocity(u, t, start", "average_velocity(s, t, start"),
    ),
    *within(
        "objectives/scflow/reversed_time.py",
        "scflow",
        ("time not turned round", "-self.flow.velocity(1 - t, z)", "-self.flow.velocity(t, z)"),
        ("the velocity's sign", "return -self.flow", "return self.flow"),
        (
            "a prediction of the noise",
            "z - per_sample(t, z) * self.v(z, t)",
            "z + per_sample(1 - t, z) * self.v(z, t)",
        ),
        (
            "data and noise exchanged",
            "per_sample(1 - t, z0) * z0 + per_sample(t, z1) * z1",
            "per_sample(t, z0) * z0 + per_sample(1 - t, z1) * z1",
        ),
    ),
    *within(
        "objectives/scflow/losses.py",
        "scflow",
        ("c left in", "+ c * c).sqrt() - c)", "+ c * c).sqrt())"),
        ("the move towards noise not bounded", "u_up * (1 - t).clamp(max=delta)", "u_up * (1 - t)"),
        (
            "the move towards the data is a move to noise",
            "Moves(z - per_sample(down, z) * v",
            "Moves(z + per_sample(down, z) * v",
        ),
        ("t_down stays at t", "v, t - down, z +", "v, t, z +"),
        (
            "truncation above its time",
            "per_sample(t_down < truncation, z0)",
            "per_sample(t_down >= truncation, z0)",
        ),
        ("a target that learns", "pseudo_huber(predicted, y.detach(), c)", "pseudo_huber(predicted, y, c)"),
        (
            "the other target learns",
            "pseudo_huber(predicted, target.detach(), c)",
            "pseudo_huber(predicted, target, c)",
        ),
        ("a one-step result that moves", "fixed = one_step.detach()", "fixed = one_step"),
        ("reflow against the noise", "t) - fixed).square()", "t) - z1).square()"),
        ("a generator that saturates", "F.softplus(-critic(one_step))", "-F.softplus(critic(one_step))"),
        (
            "the discriminator loves samples",
            "F.softplus(-on_data) + F.softplus(on_sample)\n    (slope,)",
            "F.softplus(on_data) + F.softplus(-on_sample)\n    (slope,)",
        ),
        ("twice the penalty", "loss + gamma / 2 * slope", "loss + gamma * slope"),
    ),
    *within(
        "objectives/reflow.py",
        "scflow",
        ("one solution for every sample", "torch.cat([end] * times)", "end.repeat_interleave(times, 0)"),
        ("a teacher at the wrong times", "k / steps), y) / steps", "(k + 1) / steps), y) / steps"),
        ("the velocity backwards", "- (y - x0))", "- (x0 - y))"),
    ),
]
