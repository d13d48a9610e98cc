"""Plant faults in the mathematics, one at a time, and see whether the analytic tests notice.

    python tests/mutants.py [part of a fault's name or file]

Each fault is an exact replacement in a temporary copy of src/. The exit status is 0 only if every replacement
was found exactly once and every fault was killed by a failing test (an error on import does not count).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

# One thread: before torch is imported, and because threads do not survive a fork.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import pytest
import scipy.optimize  # noqa: F401
import torch.testing
import torchdiffeq  # noqa: F401

# The first forward-mode pass loads a second's worth of torch: once here, and not in every child.
torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str


def _in(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Fault]:
    return [Fault(name, file, old, new, tests) for name, old, new in faults]


STOPPED, LEARNED = "with torch.no_grad():\n        ", "with torch.enable_grad():\n        "

FAULTS = [
    *_in(
        "flows/interpolants.py",
        "interpolants",
        (
            "noise and data exchanged",
            "Coefficients(1 - t, t, zero, -one, one, zero)",
            "Coefficients(t, 1 - t, zero, one, -one, zero)",
        ),
        ("sign of the cosine's derivative", "-sin * (pi / 2)", "sin * (pi / 2)"),
        ("gamma' twice too large", "torch.sin(2 * pi * t) * (pi / 2)", "torch.sin(2 * pi * t) * pi"),
        ("gamma not zero at 1", "torch.sin(pi * t) ** 2 / 2,", "torch.sin(pi * t / 2) ** 2 / 2,"),
        ("gamma' z left out", "velocity = velocity + per_sample(c.d_gamma, z) * z", "pass"),
        (
            "x0 and x1 exchanged in a batch",
            "at(time, self.x0, self.x1, self.z)",
            "at(time, self.x1, self.x0, self.z)",
        ),
        ("a part keeps all of g", "self.g[cut], self.interpolant", "self.g, self.interpolant"),
    ),
    *_in(
        "flows/flow_map.py",
        "flow_maps",
        (
            "jump backwards",
            "return x + per_sample(t - s, x) * self.average",
            "return x + per_sample(s - t, x) * self.average",
        ),
        ("sign of (dt - ds) v", "per_sample(dt - ds, x) * v", "per_sample(ds - dt, x) * v"),
        ("(t - s) dv left out", " * v + span * dv)", " * v)"),
        ("dx left out", "Jump(x + span * v, dx + per_sample", "Jump(x + span * v, per_sample"),
        (
            "d/ds and d/dt exchanged",
            "return self.jump_following(s, t, x, torch.zeros_like(x))",
            "return self.jump_dt(s, t, x)",
        ),
        (
            "Eulerian derivative without transport",
            "zeros_like(t), dx)\n\n\nclass",
            "zeros_like(t), 0 * dx)\n\n\nclass",
        ),
        (
            "velocity off the diagonal",
            "return self.average_velocity(t, t, x)",
            "return self.average_velocity(0 * t, t, x)",
        ),
        ("Euler step with the velocity of its end", "self.base.velocity(s, x)", "self.base.velocity(t, x)"),
    ),
    *_in(
        "objectives/common.py",
        "equivalences",
        ("mean for sum in the squared norm", ".flatten(1).sum(1)", ".flatten(1).mean(1)"),
    ),
    *_in(
        "objectives/si.py",
        "equivalences residuals_at_truth",
        ("velocity at s", "student.velocity(batch.t,", "student.velocity(batch.s,"),
    ),
    *_in(
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
    *_in(
        "objectives/emd.py",
        "equivalences residuals_at_truth",
        ("sign of the transport", ".tangent + transport", ".tangent - transport"),
        ("transport not stopped", STOPPED + "transport", LEARNED + "transport"),
        ("teacher not stopped", STOPPED + "b = teacher", LEARNED + "b = teacher"),
        ("teacher asked at t", "teacher.velocity(batch.s, start)", "teacher.velocity(batch.t, start)"),
    ),
    *_in(
        "objectives/esd.py",
        "equivalences",
        ("transport not stopped", STOPPED + "transport", LEARNED + "transport"),
        ("own diagonal not stopped", STOPPED + "b = frozen", LEARNED + "b = frozen"),
        ("own diagonal at t", "frozen.velocity(batch.s, start)", "frozen.velocity(batch.t, start)"),
        ("transport of the student", "frozen.jump_along", "student.jump_along"),
    ),
    *_in(
        "objectives/lsd.py",
        "equivalences residuals_at_truth",
        ("own diagonal not stopped", STOPPED + "b = frozen", LEARNED + "b = frozen"),
        ("diagonal at s", ".velocity(batch.t, jump.point)", ".velocity(batch.s, jump.point)"),
    ),
    *_in(
        "objectives/fmm.py",
        "equivalences residuals_at_truth",
        ("both jumps forwards", "student.jump(batch.t, batch.s,", "student.jump(batch.s, batch.t,"),
        ("interpolant at s", "path = batch.at(batch.t)", "path = batch.at(batch.s)"),
        ("derivative in s", "student.jump_dt(", "student.jump_ds("),
        ("inner jump stopped", "batch.t, back)", "batch.t, back.detach())"),
        ("invertibility left out", " + invertibility * returns", ""),
    ),
    *_in(
        "objectives/eulerian.py",
        "equivalences residuals_at_truth",
        ("derivative in the end time", "student.jump_ds(", "student.jump_dt("),
        ("sign of dI", "there.tangent + path.velocity", "there.tangent - path.velocity"),
        ("weight of invertibility", "moves + invertibility *", "moves +"),
    ),
    *_in(
        "objectives/consistency.py",
        "equivalences residuals_at_truth",
        ("target not stopped", " * dv).detach())", " * dv))"),
        ("all stopped but dv", "squared_norm(v - (drift + ", "squared_norm(v.detach() - (drift + "),
        ("sign of (t - s)", "per_sample(batch.t - batch.s, start)", "per_sample(batch.s - batch.t, start)"),
        ("derivative in t", "start, one, zero, drift)", "start, zero, one, drift)"),
    ),
    *_in(
        "objectives/meanflow.py",
        "equivalences residuals_at_truth",
        ("interpolant at t", "batch.at(batch.s)", "batch.at(batch.t)"),
    ),
    *_in(
        "objectives/pfmm.py",
        "equivalences residuals_at_truth",
        ("one jump too few", "in range(jumps)", "in range(jumps - 1)"),
        ("every jump from s", "batch.s + k * span,", "batch.s,"),
        ("teacher not stopped", "with torch.no_grad()", "with torch.enable_grad()"),
    ),
    *_in(
        "objectives/psd.py",
        "equivalences residuals_at_truth",
        ("g and 1 - g exchanged in u", "u = g * s + (1 - g) * t", "u = (1 - g) * s + g * t"),
        ("target not stopped", "with torch.no_grad()", "with torch.enable_grad()"),
        ("second jump from the start", "start + per_sample(u - s, start) * first", "start"),
        ("second jump from s", "average_velocity(u, t, start", "average_velocity(s, t, start"),
    ),
    *_in(
        "flows/exact/gaussian.py",
        "worlds",
        ("stretch without its root", "self._spectrum(start)).sqrt()", "self._spectrum(start))"),
        ("beta for beta^2", "b**2 * self.ratio", "b * self.ratio"),
        ("gamma left out of the velocity", " + g * dg * self.noise", ""),
        ("latent noise in the wrong basis", "self.noise = scale.square()", "self.noise = scale"),
        ("basis of C0 alone", "eigh(c0 + 0.7320508 * c1)", "eigh(c0)"),
        ("root transposed", "self.w = root.T @", "self.w = root @"),
        (
            "samples with the other factor",
            "torch.linalg.cholesky(self.c1).T",
            "torch.linalg.cholesky(self.c1)",
        ),
    ),
    *_in(
        "flows/exact/mixture.py",
        "worlds",
        ("posterior without the weights", "log = self.weights.log() - centred", "log = -centred"),
        ("posterior of one dimension", "x.shape[1] / 2 * variance.log()", "variance.log() / 2"),
        ("sign of the means' drift", "db[..., None] * self.mu +", "-db[..., None] * self.mu +"),
    ),
    *_in(
        "flows/exact/checkerboard.py",
        "checkerboard",
        ("the other eight squares", "if (i + j) % 2 == 0", "if (i + j) % 2 == 1"),
        ("upper tail not reflected", "torch.where(flip, -mean, mean)", "mean"),
        (
            "one axis in the posterior",
            "(mass[:, 0, columns] + mass[:, 1, rows]).softmax",
            "(mass[:, 0, columns]).softmax",
        ),
        ("noise not scaled", "x.double() - self.scale * noise", "x.double() - noise"),
        ("Euler for the midpoint", "self.velocity(now + step / 2, half)", "self.velocity(now, x)"),
    ),
    *_in(
        "flows/samplers.py",
        "samplers",
        ("one step too many", "for k in range(steps))", "for k in range(steps + 1))"),
        ("fresh noise of deviation 1", "fresh = scale * torch.randn", "fresh = torch.randn"),
        ("Heun without its second slope", "(first + second)", "(first + first)"),
        ("Heun's second slope at s", "counted.velocity(_full(x, t),", "counted.velocity(_full(x, s),"),
        (
            "Euler with the slope of its end",
            "(t - s) * counted.velocity(_full(x, s), x)",
            "(t - s) * counted.velocity(_full(x, t), x)",
        ),
        ("jumps not counted", "self.calls += 1\n        return self.inner.jump", "return self.inner.jump"),
        ("past the end of time", 'options={"step_t": ends[1:]}', "options=None"),
    ),
    *_in(
        "metrics/kl.py",
        "metrics",
        ("area of a bin", "(2 / bins) ** 2", "(1 / bins) ** 2"),
        ("an empty bin given one sample", "np.where(empty, 0.5, counts)", "np.where(empty, 1.0, counts)"),
        ("mass outside forgiven", "total = len(samples) +", "total = counts.sum() +"),
        ("half samples not counted among all", "len(samples) + empty.sum() / 2", "len(samples)"),
        (
            "the other KL",
            "area[mass] * DENSITY * (log(DENSITY)",
            "estimate[mass] * (2 / bins) ** 2 * (log(DENSITY)",
        ),
    ),
    *_in(
        "metrics/wasserstein.py",
        "metrics",
        ("W1 for W2", '"sqeuclidean"', '"euclidean"'),
        ("no assignment", "cost[linear_sum_assignment(cost)].mean()", "cost.diagonal().mean()"),
        ("mean over coordinates", ".sum(1).mean()", ".mean()"),
    ),
    *_in(
        "flows/times.py",
        "times",
        ("uniform gap", "1 - torch.sqrt(1 - uniform[0] * (2 * tau - tau**2))", "tau * uniform[0]"),
        ("start not scaled to the gap", "s = uniform[1] * (1 - gap)", "s = uniform[1] * (1 - tau)"),
        ("forwards only", "torch.where(swap, t, s), torch.where(swap, s, t)", "s, t"),
        ("a stage lost", "int(progress * (self.doublings + 1))", "int(progress * self.doublings)"),
        ("annealed too slowly", "* progress / self.anneal", "* progress * self.anneal"),
        ("noise strip forgotten", "(uniform[0]), tau * uniform[0]", "(uniform[0]), uniform[0]"),
    ),
    *_in(
        "networks/mlp.py",
        "mlp",
        ("cosine's derivative", "-sin * turn", "sin * turn"),
        ("tangent not scaled", "du * self.scale", "du"),
    ),
    *_in(
        "networks/forward_mode/perceptron.py",
        "mlp",
        ("silu'", "y, s, value=-1).add_(y), s", "y, s, value=1).add_(y), s"),
        ("silu''", "torch.sub(slope, y, alpha=0.5)", "torch.sub(slope, y, alpha=1.0)"),
        ("gelu'", "torch.addcmul(below, h, phi)", "below + phi"),
        ("gelu''", "(2 - h.square())", "(1 - h.square())"),
        ("the bias has a tangent", "product(kept[-1], weight)\n", "product(kept[-1], weight, bias)\n"),
        ("tangent's gradient from the value's", "dg.mul_(slope)", "g.clone()"),
        ("bend left out", "g.mul_(slope).add_(bent)", "g.mul_(slope)"),
        ("bend without the tangent", ".mul_(dh).mul_(dg)", ".mul_(dg)"),
        ("no gradient for the layer below", "dg if to_dx else None, None, *grads", "None, None, *grads"),
        ("tangent's share of the weights lost", "for pair in pairs[1:]", "for pair in pairs[2:]"),
        (
            "transposed on wide processors",
            "product(g.t(), x.t()) if WIDE_AMD",
            "product(x.t(), g.t()) if WIDE_AMD",
        ),
        ("slope forgotten", "ctx.activation.backward(g, before[k], grad_input=g)", "pass"),
    ),
    *_in(
        "networks/forward_mode/group_norm.py",
        "dual",
        ("tangent not centred", "torch.addcmul(-r * mean,", "torch.addcmul(0 * mean,"),
        ("tangent keeps its part along z", "over[0], -r * a)", "over[0], 0 * a)"),
        ("the spread has no gradient", "- 2 * r * a * e + turned", "- 2 * r * a * e"),
        ("once, not twice", "2 * r * a * e", "r * a * e"),
        ("dx's part of x's gradient lost", ".addcmul_(dx, channels(-r * r * e))", ""),
        (
            "the tangent teaches the scale nothing",
            'to_weight = sums["gz"] + through',
            'to_weight = sums["gz"] + 0 * through',
        ),
    ),
    *_in(
        "networks/forward_mode/dual.py",
        "dual",
        ("the bias has a tangent", "func(input.tangent, weight, None,", "func(input.tangent, weight, bias,"),
        ("half a product rule", "torch.addcmul(x * b.tangent, a.tangent, y)", "x * b.tangent"),
        (
            "minus becomes plus",
            "a.tangent + b.tangent if sign > 0 else a.tangent - b.tangent",
            "a.tangent + b.tangent",
        ),
        ("a constant keeps its place", "-b.tangent).expand_as", "b.tangent).expand_as"),
        ("softmax is not normalised", "(ds - a * ds.sum(-1, keepdim=True))", "ds"),
        ("values do not move", " + a @ dv", ""),
        (
            "the gap does not move with s",
            "forward(Dual(s, ds), Dual(t, dt)",
            "forward(Dual(s, ds), Dual(t, dt + ds)",
        ),
        (
            "sine's derivative",
            "value_of(input).cos() * input.tangent",
            "value_of(input).sin() * input.tangent",
        ),
    ),
    *_in("networks/unet.py", "dual", ("the end in place of the gap", "class_labels=t - s", "class_labels=t")),
    *_in(
        "metrics/frechet.py",
        "image_metrics",
        ("means forgotten", "np.square(a.mean - b.mean).sum() + ", ""),
        ("the cross term once", "- 2 * _trace_of_root", "- _trace_of_root"),
        ("divided by the count", "/ (count - 1)", "/ count"),
        (
            "squares taken for roots",
            "total, doubt = np.sqrt(squares.clip(0)).sum()",
            "total, doubt = squares.clip(0).sum()",
        ),
    ),
    *_in(
        "metrics/kid.py",
        "image_metrics",
        ("biased", "(len(x) * (len(x) - 1))", "(len(x) * len(x))"),
        ("quadratic kernel", "((block / x.shape[1] + 1) ** 3)", "((block / x.shape[1] + 1) ** 2)"),
        ("the cross term once", "- 2 * _kernel_sum(a, b)", "- _kernel_sum(a, b)"),
    ),
    *_in(
        "metrics/precision_recall.py",
        "image_metrics",
        (
            "a neighbour too many",
            "np.partition(squares, k - 1, axis=1)[:, k - 1]",
            "np.partition(squares, k, axis=1)[:, k]",
        ),
        (
            "precision and recall swapped",
            "PrecisionRecall(precision, recall)",
            "PrecisionRecall(recall, precision)",
        ),
        (
            "samples not shifted with the data",
            "generated = generated - real.centre",
            "generated = generated + real.centre",
        ),
        ("every ball is asked for", "(squares <= reach).any(1)", "(squares <= reach).all(1)"),
    ),
    *_in(
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
    *_in(
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
    *_in(
        "flows/exact/straight.py",
        "scflow",
        ("the shift left out at the start", "(x - per_sample(t, x) * self.m)", "x"),
        ("A not transposed", "x0 @ self.a.T + self.m", "x0 @ self.a + self.m"),
    ),
    *_in(
        "objectives/reflow.py",
        "scflow",
        ("one solution for every sample", "torch.cat([end] * times)", "end.repeat_interleave(times, 0)"),
        ("a teacher at the wrong times", "k / steps), y) / steps", "(k + 1) / steps), y) / steps"),
        ("the velocity backwards", "- (y - x0))", "- (x0 - y))"),
    ),
    *_in(
        "metrics/step_consistency.py",
        "step_consistency",
        ("decibels of an amplitude", "10 * np.log10(top**2", "20 * np.log10(top**2"),
        ("K1 and K2 exchanged", "(K1 * top) ** 2, (K2 * top) ** 2", "(K2 * top) ** 2, (K1 * top) ** 2"),
        ("covariance without its means", "_mean(a * b, window) - ab", "_mean(a * b, window)"),
        ("maps not normalised", "/ (np.sqrt(np.square(maps).sum(1, keepdims=True)) + EPSILON)", "/ 1.0"),
    ),
]


def planted(fault: Fault, copy: Path) -> str:
    """Run the tests on `copy` with the fault in it, and say what became of it."""
    path = copy / "src" / "fewstep" / fault.file
    sound = path.read_text()
    if sound.count(fault.old) != 1:
        return f"FOUND {sound.count(fault.old)} TIMES"
    path.write_text(sound.replace(fault.old, fault.new))
    try:
        status = tests(copy, [f"tests/analytic/test_{name}.py" for name in fault.tests.split()])
    finally:
        path.write_text(sound)
    return {0: "SURVIVED", 1: "killed"}.get(status, f"PYTEST FAILED ({status})")


def tests(copy: Path, files: list[str]) -> int:
    """The exit status of pytest on `files`, in a child that has torch in memory but not yet the library."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        # No bytecode: a fault of the same length within the same second would run the code before it.
        sys.dont_write_bytecode = True
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *files])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    faults = [f for f in FAULTS if wanted in f.name or wanted in f.file]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src", copy / "src", ignore=ignore)
        shutil.copytree(ROOT / "tests" / "analytic", copy / "tests" / "analytic", ignore=ignore)
        for name in ("pyproject.toml", "tests/conftest.py"):
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, copy / name)
        if tests(copy, ["tests/analytic"]) != 0:
            print("the tests fail without any fault")
            return 1
        start, bad = time.monotonic(), 0
        for fault in faults:
            found = planted(fault, copy)
            bad += found != "killed"
            print(f"{found:<10}  {fault.file:<28}  {fault.name}", flush=True)
    print(f"{len(faults) - bad} of {len(faults)} faults killed in {time.monotonic() - start:.0f} s")
    return 1 if bad or not faults else 0


if __name__ == "__main__":
    sys.exit(main())
