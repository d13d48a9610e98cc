"""What a step of training costs on a device, a row a network, objective, precision, and compiled or not.

Networks, batches and optimisers are those of a tier, the loop is the library's own, the data are noise.
"""

from __future__ import annotations

import gc
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch.utils.flop_counter import FlopCounterMode

from fewstep.settings.tiers import Tier
from fewstep.settings.training import Training, precision_problems
from fewstep.training import precision

from .noise import OBJECTIVES, OnNoise, Step, job_of, loop_of

PRECISIONS = ("fp32", "tf32", "bf16")
WARM_UP, LEAST, MOST, SECONDS = 2, 3, 20, 2.0
# the samples of the step whose operations are counted: they grow in proportion
COUNTED = 8
ON_CPU = torch.ops.mkldnn._linear_pointwise
# the side of the plain product's square matrices: large enough to keep a device busy
SIDE = {"cuda": 8192, "cpu": 512}


@dataclass(frozen=True)
class Machine:
    """What a row was measured on; no date, so that the same measurement is the same file."""

    device: str
    torch: str
    driver: str
    revision: str


@dataclass(frozen=True)
class Row:
    """One line of the CSV; what could not be measured is None, and `problem` says why.

    parameters    of the network; milliseconds: the median of `steps` steps of `batch` samples
    peak_gb       the most memory that tensors held on the GPU, 10^9 bytes; None on a CPU
    tflop         floating-point operations of one step, 10^12, recomputed ones included
    limit_tflops  those that a plain matrix product does a second, in the same precision on the same device
    share         of that limit which the step reaches
    """

    device: str
    torch: str
    driver: str
    revision: str
    tier: str
    experiment: str
    network: str
    parameters: int
    objective: str
    precision: str
    compiled: bool
    batch: int
    steps: int | None = None
    milliseconds: float | None = None
    samples_per_second: float | None = None
    peak_gb: float | None = None
    tflop: float | None = None
    limit_tflops: float | None = None
    share: float | None = None
    problem: str = ""


class OutOfTimeError(Exception):
    """What was being done has had its seconds."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block after so many `seconds`; there is no limit without SIGALRM."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise OutOfTimeError(f"not finished in {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def steps_of(experiments: Sequence[str], precisions: Sequence[str] = PRECISIONS) -> list[Step]:
    """Every step to be timed, the most telling first: eager ones, and of compiled ones those in bf16."""
    eager = [Step(name, *how, False) for *how, name in product(OBJECTIVES, precisions, experiments)]
    # the derivative's pass is never compiled: see fewstep.training.precision
    compiled = [Step(name, "si", own, True) for own, name in product(reversed(precisions), experiments)]
    return eager + compiled


def _linear(a: Sequence[int], weight: Sequence[int], *rest: object, out_shape: object = None) -> int:
    """Those of rows a times a weight (out, in), from their shapes."""
    return 2 * math.prod(a) * weight[0]


def flop(job: OnNoise) -> float:
    """The floating-point operations of products and convolutions in one step, counted in a small one."""
    # whatever the weights, and compiled or not, they are the same: counted without either
    plain = job.training.model_copy(update={"batch": COUNTED, "compile": None, "precision": None})
    loop = loop_of(replace(job, training=plain))
    # what fewstep.networks.forward_mode.perceptron calls on a CPU is not in torch's own list
    with FlopCounterMode(display=False, custom_mapping={ON_CPU: _linear}) as counter:
        loop.step()
    return counter.get_total_flops() * job.training.batch / COUNTED


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> list[float]:
    """The seconds of `work`, LEAST to MOST times in about SECONDS, after WARM_UP times that do not count."""
    found: list[float] = []
    for _ in range(WARM_UP):
        work()
    _finish(device)
    while len(found) < LEAST or (len(found) < MOST and sum(found) < SECONDS):
        started = time.perf_counter()
        work()
        _finish(device)
        found.append(time.perf_counter() - started)
    return found


def limit(training: Training, device: str) -> float:
    """Floating-point operations a second of a plain product of matrices, in the precision of `training`."""
    kind = torch.bfloat16 if training.precision == "bf16" else torch.float32
    a, b = torch.randn(2, SIDE[device], SIDE[device], device=device).to(kind)
    with precision.one_thread(), precision.products(training):
        taken = statistics.median(seconds(lambda: a @ b, device))
    return 2 * SIDE[device] ** 3 / taken


def failed(error: Exception) -> str:
    """What failed, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def unmeasured(tier: Tier, name: str, step: Step, machine: Machine) -> Row:
    """The row of `step` at the tier called `name`, before it is measured."""
    job = job_of(tier, replace(step, compiled=False), "meta")
    with torch.device("meta"):
        count = sum(p.numel() for p in job.fresh().parameters())
    return Row(
        **vars(machine), tier=name, experiment=step.experiment, network=job.network.kind, parameters=count,
        objective=step.objective, precision=step.precision, compiled=step.compiled, batch=job.training.batch,
    )  # fmt: skip


def measured(row: Row, tier: Tier, step: Step, device: str, budget: float, known: dict[tuple, float]) -> Row:
    """`row` with what its step takes, or with the problem that kept it from being measured in `budget` s.

    `known` holds the operations and limits that other rows have needed, and is added to.
    """
    job, found = job_of(tier, step, device), row
    if problem := next(precision_problems(job.training, {job.network.kind}, device), None):
        return replace(row, problem=problem)
    if budget <= 0:
        return replace(row, problem="not measured: the time was over")
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        with at_most(budget), precision.one_thread(), precision.products(job.training):
            loop = loop_of(job)
            taken = seconds(loop.step, device)
            held = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
            del loop
            found = with_times(row, taken, held)
            work, best = (step.experiment, step.objective), ("product", step.precision)
            if work not in known:
                known[work] = flop(job)
            if best not in known:
                known[best] = limit(job.training, device)
            found = with_limit(found, known[work], known[best])
    # whatever a device, a compiler or too little memory may raise: one row's affair
    except Exception as error:
        found = replace(found, problem=failed(error))
    finally:
        if step.compiled:
            torch.compiler.reset()
        gc.collect()
    return found


def with_times(row: Row, taken: Sequence[float], peak_gb: float | None) -> Row:
    """`row` with the median of the seconds `taken` and what follows from it."""
    middle = statistics.median(taken)
    return replace(
        row, steps=len(taken), milliseconds=1e3 * middle, samples_per_second=row.batch / middle,
        peak_gb=peak_gb,
    )  # fmt: skip


def with_limit(row: Row, operations: float, per_second: float) -> Row:
    """`row` with the `operations` of its step beside those that the device does `per_second` at best."""
    if not math.isfinite(operations) or operations <= 0:
        return replace(row, problem="no operation of the step was counted")
    reached = operations / (row.milliseconds / 1e3)
    return replace(
        row, tflop=operations / 1e12, limit_tflops=per_second / 1e12, share=reached / per_second
    )  # fmt: skip


def rows(
    tier: Tier, name: str, steps: Sequence[Step], device: str, machine: Machine, budget: float
) -> list[Row]:
    """A row for each of `steps` at the tier called `name`, within `budget` seconds; what fails says so."""
    until, found, known = time.monotonic() + budget, [], {}
    for step in steps:
        before = unmeasured(tier, name, step, machine)
        print(f"measuring {step.experiment}, {step.objective}, {step.precision}", flush=True)
        found.append(measured(before, tier, step, device, until - time.monotonic(), known))
    return found
