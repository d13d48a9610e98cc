"""Kernels that start at once: one process has the libraries loaded, and each stage's kernel is a fork of it.

Under `dvc repro` the first stage leaves this file behind, run by its path as the forker. It loads nothing of
this package, which may change; it serves one folder of notebooks, one environment and one process group, and
ends when it is idle for a while, when the folder is gone, and when the group's leader has ended. A fork ends
with its stage; where none can be had, an ordinary kernel works. FEWSTEP_WARM=0 says never, 1 always.
"""

import builtins
import gc
import hashlib
import importlib
import json
import multiprocessing.process
import os
import runpy
import select
import selectors
import signal
import site
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

CHOICE = "FEWSTEP_WARM"
IDLE = 20.0  # seconds for which a forker waits to be asked again
PATIENCE = 180.0  # seconds for which a stage waits for a fork: the first needs all imports
LAUNCHER = "ipykernel_launcher"
SHIM = str(Path(__file__).parents[1] / "networks" / "torchvision_operators.py")
LIBRARIES = [
    "ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "ipykernel.debugger",
    "IPython.core.completerlib", "IPython.core.debugger", "torch", SHIM, "torchvision", "torch._dynamo",
    "diffusers.models.unets.unet_2d", "diffusers.models.autoencoders.autoencoder_kl", "accelerate",
    "torchdiffeq", "safetensors.torch", "scipy.stats", "scipy.optimize", "scipy.spatial.distance",
    "scipy.linalg.lapack", "pandas", "pandas.io.formats.html", "pydantic.main",
    "pydantic.functional_validators", "yaml", "concurrent.futures.process", "matplotlib.pyplot",
    "matplotlib.backends.backend_agg", "cleanfid.resize", "cleanfid.inception_torchscript",
]  # fmt: skip
# these look for the kernel when they are imported, to announce widgets to it: each imports them itself
LOOKING = ("tqdm.auto", "tqdm.notebook", "ipywidgets", "matplotlib_inline.backend_inline")
# variables that differ from stage to stage (or test to test), and that no library reads when it is imported
PASSING = ("FEWSTEP_", "JPY_", "DVC_STAGE=", "PWD=", "OLDPWD=", "SHLVL=", "_=", "PYTEST_CURRENT_TEST=")
# a fresh interpreter whose search path is that of `python -m`, less the folder where it starts
_SCRIPT = """import runpy, sys; sys.flags.safe_path or sys.path.pop(0)
runpy.run_path(sys.argv[1], run_name='__main__')"""
FORKER = ["-c", _SCRIPT, __file__]
LARGEST = 1 << 20  # bytes of a message
_KEPT: dict = {}  # what was imported: the operators that the shim declares live no longer than its names


class Kernel:
    """A forked kernel in place of a subprocess.Popen; the forker, whose child it is, says how it ended."""

    stdin = stdout = stderr = returncode = None

    def __init__(self, pid: int, line: socket.socket):
        self.pid, self.line, self.process = pid, line, os.pidfd_open(pid)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended; raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self.process], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("kernel", timeout)
            self.returncode = -signal.SIGKILL  # also what is said of one whose forker is gone
            with suppress(OSError, ValueError):
                self.line.settimeout(2)
                self.returncode = int(self.line.recv(LARGEST))
            self.line.close()
            os.close(self.process)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self.process, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _peer(line: socket.socket) -> tuple[int, int]:
    """The ids of the process at the other end of the line and of its user."""
    return struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[:2]


def wanted(environment: dict[str, str]) -> bool:
    """Whether kernels are forked: in the pipeline, on Linux, without a GPU, whose driver does not bear it."""
    choice = environment.get(CHOICE) or ("1" if "DVC_STAGE" in environment else "0")
    if choice == "0" or sys.platform != "linux" or not hasattr(signal, "pidfd_send_signal"):
        return False
    return not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def address(folder: str, environment: dict[str, str]) -> str:
    """Linux's abstract name under which a forker is found: another for all that an import could notice."""
    import resource  # here, because Windows has none

    lasting = sorted(text for text in map("=".join, environment.items()) if not text.startswith(PASSING))
    os.umask(mask := os.umask(0o077))
    limits = [resource.getrlimit(value) for name, value in vars(resource).items() if name[:7] == "RLIMIT_"]
    power = [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)), mask, limits]
    place = [os.path.realpath(folder), os.stat(folder).st_ino, os.getpgrp(), os.getuid(), os.getgid()]
    place += [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid")]
    sites = [(path, os.stat(path).st_mtime_ns) for path in site.getsitepackages() if os.path.isdir(path)]
    code = [Path(path).read_bytes() for path in (__file__, SHIM)]
    parts = [sys.executable, sys.version, sys.path[1:], sites, code, LIBRARIES, lasting, power, place]
    return "fewstep-" + hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def _connect(name: str) -> socket.socket | None:
    """A line to this user's forker, if there is one of that name."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(PATIENCE)
    with suppress(OSError):
        line.connect("\0" + name)
        if _peer(line)[1] == os.getuid():
            return line
    line.close()
    return None


def _start(name: str, folder: str, environment: dict[str, str]) -> socket.socket | None:
    """A line to a new forker, whose imports are still to come."""
    words, null = [sys.executable, *FORKER, name, folder, str(IDLE), *LIBRARIES], subprocess.DEVNULL
    subprocess.run(words, cwd=folder, env=environment, timeout=PATIENCE, stdin=null, stdout=null, stderr=null)
    return _connect(name)


def launch(command: list[str], folder: str, environment: dict[str, str]) -> Kernel | None:
    """A fork in place of the kernel that `command` would start in `folder`; None when that has to start."""
    if not wanted(environment) or command[:3] != [sys.executable, "-m", LAUNCHER]:
        return None
    own = environment | {"JPY_PARENT_PID": str(os.getpid())}
    message = json.dumps({"command": command, "folder": folder, "environment": own}).encode()
    with suppress(OSError, subprocess.SubprocessError):
        name = address(folder, environment)
        for _ in range(2):  # a forker that is found may be about to end
            if not (line := _connect(name) or _start(name, folder, environment)):
                break
            try:
                socket.send_fds(line, [message], [1, 2])
                kernel = Kernel(int(line.recv(LARGEST)), line)
                line.send(b"go")  # a fork without this word ends: no ordinary kernel is ever beside it
                return kernel
            except (OSError, ValueError) as problem:  # it has ended, or refuses
                with line:
                    if isinstance(problem, TimeoutError):  # it hangs: the next stage gets another
                        os.kill(_peer(line)[0], signal.SIGKILL)
                        break
    return None


def _load(libraries: list[str]) -> dict[str, str]:
    """Import `libraries`, and return the variables that they set; raises where forks would be no good."""
    # not 0, or the kernel explains itself on the terminal, and no process, for whose end it would wait
    os.environ["JPY_PARENT_PID"] = "1"
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as ipykernel does
    # pandas, for one, asks whether it is in a notebook, to show all columns of a table
    builtins.get_ipython = lambda: SimpleNamespace(kernel=None)
    before = dict(os.environ)
    for name in libraries:
        _KEPT[name] = (runpy.run_path if name == SHIM else importlib.import_module)(name)
    del builtins.get_ipython
    for name in [name for name in sys.modules if name.startswith(LOOKING)]:
        parent, _, own = name.rpartition(".")
        vars(sys.modules.get(parent, sys.modules.pop(name))).pop(own, None)
    threads, torch = os.listdir("/proc/self/task"), sys.modules.get("torch")
    if len(threads) > 1 or (torch and torch.cuda.is_initialized()):
        raise RuntimeError("a fork would lack the threads, or break the GPU")
    gc.collect()
    gc.freeze()  # what a fork's collector does not touch stays shared
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def _become(request: dict, streams: list[int], asker: int) -> None:
    """Make this fork what the command would have started, up to its main module, ending with `asker`."""
    os.setsid()
    end, other = os.pipe()
    os.close(other)  # there is nothing to read for an ordinary kernel either
    for number, stream in enumerate([end, *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.orig_argv[:] = request["command"]
    sys.argv[:] = ["-m", *request["command"][3:]]
    sys.path[:0] = [] if sys.flags.safe_path else [os.getcwd()]
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    importlib.invalidate_caches()
    # unless they are given a seed, both start from one of their own in every kernel, as `random` does itself
    if "torch" in sys.modules:
        sys.modules["numpy"].random.seed()
        sys.modules["torch"].default_generator.seed()
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()
    sys.modules.pop("__mp_main__")  # this file

    def watch() -> None:
        select.select([asker], [], [])
        os.killpg(0, signal.SIGKILL)  # its workers too

    threading.Thread(target=watch, daemon=True).start()


def _asked(listener: socket.socket) -> tuple[socket.socket, dict, list[int], int] | None:
    """The line to who asks, what is asked for, its streams and its process; None for whom it is not for."""
    line = listener.accept()[0]
    line.settimeout(5)
    with suppress(OSError):
        pid, user = _peer(line)
        asker = os.pidfd_open(pid)
        content, streams, _, _ = socket.recv_fds(line, LARGEST, 2)
        if user == os.getuid() and content:
            return line, json.loads(content), streams, asker
    line.close()
    return None


def _serve(listener: socket.socket, folder: str, idle: float, libraries: list[str]) -> bool:
    """Fork a kernel whenever one is asked for: True in the fork, False once nothing is left to wait for."""
    selector, kernels, here, leader, have = selectors.DefaultSelector(), {}, os.stat(folder).st_ino, [], None
    selector.register(listener, selectors.EVENT_READ)
    with suppress(OSError):
        leader = [os.pidfd_open(os.getpgrp())]
        if not select.select(leader, [], [], 0)[0]:  # else it has ended long ago, and tells nothing
            selector.register(*leader, selectors.EVENT_READ)
    with suppress(Exception):  # they load no better for the next stage: be there, and refuse
        have = _load(libraries)
    last = time.monotonic()
    while True:
        ready = {key.fd for key, _ in selector.select(0.5)}
        for process in kernels.keys() & ready:
            pid, line = kernels.pop(process)
            selector.unregister(process)
            os.close(process)
            with suppress(OSError):
                line.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            line.close()
        if listener.fileno() in ready and have is None:
            listener.accept()[0].close()
        elif listener.fileno() in ready and (found := _asked(listener)):
            line, request, streams, asker = found
            request["environment"] |= have
            if (pid := os.fork()) == 0:
                for opened in [selector, listener, *(other for _, other in kernels.values())]:
                    opened.close()
                line.settimeout(None)
                if not line.recv(LARGEST):
                    os._exit(1)
                line.close()
                _become(request, streams, asker)
                return True
            for number in [*streams, asker]:
                os.close(number)
            process = os.pidfd_open(pid)
            kernels[process] = pid, line
            selector.register(process, selectors.EVENT_READ)
            with suppress(OSError):
                line.send(str(pid).encode())
        last = time.monotonic() if kernels or ready else last
        if ready & {*leader}:  # wait for no other
            selector.unregister(*leader)
            idle = 0.0
        gone = not os.path.isdir(folder) or os.stat(folder).st_ino != here
        if not kernels and (gone or time.monotonic() > last + idle):
            return False


def _main(name: str, folder: str, idle: str, *libraries: str) -> None:
    """Leave the forker behind, an orphan in its process group, and end once it has its name."""
    named, naming = os.pipe()
    if os.fork():
        os.close(naming)
        os.read(named, 1)  # nothing: it ends when the other has closed it
        os._exit(0)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("\0" + name)  # an error, and the end of this one, where another was faster
    listener.listen(8)
    os.close(naming)
    if _serve(listener, folder, float(idle), list(libraries)):
        runpy.run_module(LAUNCHER, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(*sys.argv[2:])
