"""Run a notebook as a stage: papermill executes it, and what varies from run to run is dropped.

The executed notebook is byte-stable: no run times, no random cell ids, no stderr. Progress and the time that
is left are shown on the terminal instead, by the process that waits for the kernel.
"""

import logging
import os
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

# jsonschema would load, or even compile, what checks web addresses and dates, of which no notebook has any:
# more than a second that every stage pays
for _unused in ("rfc3987_syntax", "isoduration", "rfc3986_validator"):
    sys.modules.setdefault(_unused, None)

import nbformat  # noqa: E402
import papermill  # noqa: E402
from jupyter_client.kernelspec import KernelSpec  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from jupyter_client.provisioning.local_provisioner import LocalProvisioner  # noqa: E402
from traitlets.config import Config  # noqa: E402

from ..storage import progress  # noqa: E402
from ..storage.files import lock, remove_left, require_writable, write_atomically  # noqa: E402
from ..storage.workspace import PIPELINE, START_METHOD, Workspace  # noqa: E402
from . import kernels, timings  # noqa: E402

FOLDER = "fewstep-stage-"  # what the names of private folders begin with


class NotebookError(RuntimeError):
    """A notebook cannot be run as asked, or stopped with an error; the message says where."""


def stabilise(notebook: nbformat.NotebookNode) -> str:
    """Drop from an executed notebook what differs between two equal runs; returns the stderr in it."""
    said = []
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for k, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{k}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        said += [o.text for o in cell.outputs if o.get("name") == "stderr"]
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return "".join(said)


class _Provisioner(LocalProvisioner):
    """Starts a kernel as a fork of one that has the libraries loaded, where that can be had."""

    async def launch_kernel(self, cmd, **options):
        folder, environment = os.path.abspath(options.get("cwd") or "."), options.get("env") or {**os.environ}
        known = options.keys() <= {"cwd", "env"}
        if not known or (forked := kernels.launch(cmd, folder, environment)) is None:
            return await super().launch_kernel(cmd, **options)
        self.process, self.pid, self.pgid, self.cwd = forked, forked.pid, forked.pid, folder
        return self.connection_info


class Forking:
    """Before a kernel manager: its kernels are of this very interpreter, and forks where they can be."""

    # whatever JUPYTER_PATH offers under the same name
    kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", kernels.LAUNCHER, "-f", "{connection_file}"],
        display_name="Python 3 (ipykernel)",
        language="python",
        metadata={"supported_encryption": ["curve"]},
    )

    async def _async_pre_start_kernel(self, **options):
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or options.pop("kernel_id", str(uuid.uuid4()))
            own = {"kernel_id": self.kernel_id, "kernel_spec": self.kernel_spec}
            self.provisioner = _Provisioner(parent=self, **own)
        return await super()._async_pre_start_kernel(**options)


class _LocalKernel(Forking, AsyncKernelManager):
    pass


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for this process's sockets and files, which nobody else reads; a later run clears it away."""
    remove_left(Path(tempfile.gettempdir()).glob(f"{FOLDER}*.tmp"))
    with tempfile.TemporaryDirectory(f".{os.getpid()}.tmp", FOLDER, ignore_cleanup_errors=True) as folder:
        if os.name == "posix":
            lock(os.open(folder, os.O_RDONLY))  # until this process ends
        yield Path(folder)


def _connection(folder: Path) -> Config:
    """How to talk to a kernel: over sockets in `folder`, or where there can be none over the loopback."""
    own = {"transport": "ipc", "ip": str(folder / "kernel")}
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(f"{own['ip']}-0")
    except (OSError, AttributeError):  # its file system has none, its path is too long, or this is Windows
        own = {"transport": "tcp", "ip": "127.0.0.1", "transport_encryption": "auto"}
    return Config({"KernelManager": own | {"connection_file": str(folder / "kernel.json")}})


class _Watch(threading.Thread):
    """Prints progress and the time left: a line that changes on a terminal, now and then elsewhere.

    `seconds` are those of the stage so far; while others are at work beside it, its share of the clock's.
    """

    def __init__(self, stage: str, channel: Path, plan: timings.Plan, at_work: Callable[[], int]):
        super().__init__(daemon=True)
        self.stage, self.channel, self.plan, self.at_work = stage, channel, plan, at_work
        self.seconds, self.last, self.stopped = 0.0, time.monotonic(), threading.Event()
        self.live = sys.stderr.isatty() and progress.LINES not in os.environ

    def count(self) -> None:
        now = time.monotonic()
        self.seconds, self.last = self.seconds + (now - self.last) / self.at_work(), now

    def line(self) -> str:
        elapsed = self.seconds
        message = progress.read(self.channel) or {"done": 0, "total": 1, "label": "starting"}
        share = message["done"] / max(message["total"], 1)
        stage_left, all_left = self.plan.left(self.stage, elapsed, share)
        text = f"{self.stage}: {message['label']} {share:4.0%}, {timedelta(seconds=int(elapsed))} gone"
        if stage_left is not None:
            text += f", about {timedelta(seconds=int(stage_left))} left here"
        if all_left is not None:
            text += f" and {timedelta(seconds=int(all_left))} for the whole pipeline"
        return text

    def run(self) -> None:
        said = time.monotonic()
        while not self.stopped.wait(1.0):
            self.count()
            if self.live or time.monotonic() > said + 20.0:
                said = time.monotonic()
                sys.stderr.write(f"\r\033[K{self.line()}" if self.live else self.line() + "\n")
                sys.stderr.flush()

    def stop(self) -> None:
        self.stopped.set()
        self.join()
        self.count()
        if self.live:
            sys.stderr.write("\r\033[K")


def run(
    workspace: Workspace,
    notebook: str,
    experiment: str | None = None,
    data: str | None = None,
    folder: str = "",
) -> Path:
    """Execute notebooks/<notebook>.ipynb for the pipeline and store it below artifacts/<tier>/notebooks.

    `folder` is that of a pipeline beside the main one: artifacts/<tier>/<folder>/notebooks.

    Raises NotebookError when the notebook does not exist, does not declare a parameter that it is given, or
    ends in an error; the notebook as far as it came then lies beside its place, as *.failed.ipynb.
    """
    source = workspace.root / "notebooks" / f"{notebook}.ipynb"
    if not source.is_file():
        there = ", ".join(sorted(p.stem for p in source.parent.glob("*.ipynb")))
        raise NotebookError(f"there is no notebook {source}; there are {there}")
    parameters = {"tier": workspace.tier, "experiment": experiment, "data": data}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    try:
        declared = papermill.inspect_notebook(str(source))
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise NotebookError(f"{source} is no notebook ({reason}): restore it with `git checkout`") from None
    if unknown := sorted(parameters.keys() - declared):
        lacking = f"notebooks/{notebook}.ipynb declares no parameter '{unknown[0]}'"
        raise NotebookError(f"{lacking}: add it to its parameters cell")
    stage = "-".join(filter(None, (notebook, experiment or data)))
    target = workspace.pipeline / folder / "notebooks" / (name := f"{stage}.ipynb")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # asked now, and not when all is computed
    require_writable(target.parent)
    require_writable(workspace.root / "results" / workspace.tier)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _private_folder() as private, timings.at_work(workspace, stage) as at_work:
        raw, channel = private / "raw.ipynb", private / "progress.json"
        # one thread in the kernel too: what is computed there must not depend on the machine's cores
        os.environ |= {PIPELINE: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.environ[progress.CHANNEL] = str(channel)
        os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
        if kernels.wanted(dict(os.environ)):
            # what a forked kernel starts may be forks too
            os.environ.setdefault(START_METHOD, "fork")
        watch = _Watch(stage, channel, timings.Plan.load(workspace, folder), at_work)
        watch.start()
        try:
            quiet = {"progress_bar": False, "request_save_on_cell_execute": False}
            # "immediate": all that it wrote is on the disk, and a polite end takes half a second
            kernel = {"kernel_manager_class": _LocalKernel, "shutdown_kernel": "immediate"}
            kernel |= {"kernel_name": "python3", "cwd": str(source.parent), "config": _connection(private)}
            finished = papermill.execute_notebook(str(source), str(raw), parameters, **kernel, **quiet)
        except papermill.PapermillExecutionError as error:
            failed = target.with_suffix(".failed.ipynb")
            write_atomically(failed, raw.read_bytes())
            raise NotebookError(f"{name}: {error.ename}: {error.evalue} (see {failed})") from None
        except OSError as error:  # a full disk, of which papermill does not say which
            problem = f"{name}: {error.strerror or error}; the notebook could not be executed in"
            raise OSError(error.errno, problem, error.filename or str(private)) from error
        finally:
            watch.stop()
    if said := stabilise(finished):
        sys.stderr.write(said)
    write_atomically(target, nbformat.writes(finished).encode() + b"\n")
    target.with_suffix(".failed.ipynb").unlink(missing_ok=True)
    timings.record(workspace, stage, watch.seconds, folder)
    return target
