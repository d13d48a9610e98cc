"""Work shared out over processes of one thread each: no number depends on how many there are.

Where the kernel of a stage is a fork that has the libraries, so are the processes that it starts: loading
torch and diffusers anew takes seconds a stage. What a fork could break is not there: a GPU (then nothing is
forked), threads of OpenMP or OpenBLAS (a kernel has one), autograd's threads (for CPUs there are none).
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch

from ..storage.workspace import START_METHOD
from .lifetime import exit_with_parent


def start_method() -> str:
    """How processes are started: "fork" where kernels are forks themselves, "spawn" elsewhere."""
    return os.environ.get(START_METHOD, "spawn")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block, so that sums are taken in one order on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prepare_worker(parent: int) -> None:
    torch.set_num_threads(1)
    exit_with_parent(parent)


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` single-threaded processes."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))  # read by the children's libraries when they are loaded
    context = multiprocessing.get_context(start_method())
    executor = ProcessPoolExecutor(workers, context, _prepare_worker, (os.getpid(),))
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_all(function: Callable, jobs: Sequence[tuple], workers: int, on_done: Callable[[int], None]) -> list:
    """[function(*job) for job in jobs], as `run_after` does it."""
    results = run_after(function, dict(enumerate(jobs)), {}, workers, on_done)
    return [results[k] for k in range(len(jobs))]


def run_after(
    function: Callable,
    jobs: Mapping[Any, tuple],
    after: Mapping[Any, Sequence],
    workers: int,
    on_done: Callable[[int], None] = lambda done: None,
) -> dict[Any, Any]:
    """function(*job) of every job by name, each once those that `after` names for it are done.

    At most `workers` processes; with one, or one job, everything runs in this process, in the order of
    `jobs`, in which none may stand before one that it waits for. The results are the same bits. `on_done(n)`
    is called when n are done.
    """
    results: dict[Any, Any] = {}
    running: dict[Future, Any] = {}
    waiting = dict(jobs)
    if workers == 1 or len(jobs) == 1:
        with one_thread():
            for name, job in jobs.items():
                results[name] = function(*job)
                on_done(len(results))
        return results
    with pool(min(workers, len(jobs))) as executor:
        while len(results) < len(jobs):
            for name in [n for n in waiting if all(other in results for other in after.get(n, ()))]:
                running[executor.submit(function, *waiting.pop(name))] = name
            for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                results[running.pop(future)] = future.result()
                on_done(len(results))
    return results
