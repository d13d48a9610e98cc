"""Work shared out over processes of one thread each.

Every number is computed by a single thread, so it does not depend on how many there are; parallel speed comes
from doing several seeds at once. There are never more busy processes than `workers`.

Where the kernel of a stage is a fork that has the libraries, so are the processes that it starts (FEWSTEP_START_METHOD=fork): loading
torch and diffusers anew in two of them at once takes seconds a stage. What a fork could miss or break is not there: a GPU
(then nothing is forked), threads of OpenMP or OpenBLAS (a kernel has one thread), autograd's threads (for CPUs there are none).
"""

from __future__ import annotations

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
    """How processes are started: "fork" where kernels are forks themselves, "spawn", which loads the libraries anew, elsewhere."""
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
    executor = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context(start_method()),
        initializer=_prepare_worker,
        initargs=(os.getpid(),),
    )
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
    """[function(*job) for job in jobs], over at most `workers` processes; `on_done(n)` after each, n done so far.

    With one worker, or one job, everything runs in this process: the results are the same bits.
    """
    if workers == 1 or len(jobs) == 1:
        results = []
        with one_thread():
            for job in jobs:
                results.append(function(*job))
                on_done(len(results))
        return results
    with pool(min(workers, len(jobs))) as executor:
        waiting: set[Future] = set()
        futures = [executor.submit(function, *job) for job in jobs]
        waiting.update(futures)
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            on_done(len(jobs) - len(waiting))
    return [future.result() for future in futures]


def run_after(
    function: Callable, jobs: Mapping[str, tuple], after: Mapping[str, Sequence[str]], workers: int
) -> dict[str, Any]:
    """function(*job) of every job by name, each once those that `after` names for it are done.

    At most `workers` processes; with one, everything runs in this process, in the order of `jobs`, in which no job may
    stand before one that it waits for.
    """
    if workers == 1 or len(jobs) == 1:
        return {name: function(*job) for name, job in jobs.items()}
    results: dict[str, Any] = {}
    running: dict[Future, str] = {}
    with pool(min(workers, len(jobs))) as executor:
        while len(results) < len(jobs):
            for name, job in jobs.items():
                ready = all(other in results for other in after.get(name, ()))
                if ready and name not in results and name not in running.values():
                    running[executor.submit(function, *job)] = name
            for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                results[running.pop(future)] = future.result()
    return results
