"""Work shared out over processes of one thread each: no number depends on how many there are.

Where the kernel of a stage is a fork that has the libraries, so are the processes that it starts: loading
torch and diffusers anew takes seconds a stage. What a fork could break is not there: a GPU (then nothing is
forked), threads of OpenMP or OpenBLAS (a kernel has one), autograd's threads (for CPUs there are none).
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from ..storage.workspace import START_METHOD
from .lifetime import exit_with_parent
from .precision import one_thread
from .processes import join


def start_method() -> str:
    """How processes are started: "fork" where kernels are forks themselves, "spawn" elsewhere."""
    return os.environ.get(START_METHOD, "spawn")


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


def loopback_store() -> distributed.TCPStore:
    """The store where processes meet, on a free port of the loopback interface, out of others' reach."""
    # torch's own socket would listen on every interface
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    kept = {"wait_for_workers": False, "master_listen_fd": listener.detach()}
    return distributed.TCPStore(host, port, is_master=True, **kept)


def spread(work: Callable, arguments: tuple, count: int, device: str, watch: Callable[[], None]) -> None:
    """Run work(processes, *arguments) in `count` processes here, calling `watch()` about once a second.

    They are fresh unless `start_method` allows forks: `work` must be a function of a module, and a
    script needs its `if __name__ == "__main__"`. When a process stops, or the wait is interrupted, the others
    are ended. Raises RuntimeError with the message of the first that stopped.
    """
    from torch.multiprocessing.spawn import ProcessException, start_processes

    # held here until the end, so that no other program can take the port in between
    store = loopback_store()
    settings = (work, arguments, count, device, store.port, os.getpid())
    context = start_processes(_take_part, settings, count, join=False, start_method=start_method())
    try:
        while not context.join(timeout=1.0, grace_period=1.0):
            watch()
    except ProcessException as error:
        message = str(error).strip().splitlines()[-1]
        raise RuntimeError(f"process {error.error_index} of {count} stopped: {message}") from error
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def _take_part(
    rank: int, work: Callable, arguments: tuple, count: int, device: str, port: int, parent: int
) -> None:
    exit_with_parent(parent)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    # the parent holds the store; one thread each, as everywhere
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place |= {"TORCHELASTIC_USE_AGENT_STORE": True, "OMP_NUM_THREADS": 1}
    os.environ |= {name: str(value) for name, value in place.items()}
    if sys.platform == "linux":
        # all are on this machine, whose own name need not resolve to an address
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    processes = join(device)
    if processes.count != count:
        # a fork of a process that had a place already: each would train alone
        problem = f"process {rank} of {count} takes itself for one of {processes.count}"
        raise RuntimeError(f"{problem}: accelerate was used before training; restart the kernel")
    work(processes, *arguments)
    distributed.destroy_process_group()
