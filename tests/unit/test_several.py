"""One network trained by two processes over gloo is the network that one process trains."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.pipeline import kernels
from fewstep.settings.networks import UNetSettings
from fewstep.settings.tiers import Compute
from fewstep.settings.training import Term, TimesSettings
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.storage.workspace import START_METHOD
from fewstep.training import job as run
from fewstep.training import pool, train
from fewstep.training import processes as several
from fewstep.training.processes import Processes

FMM = "fmm-checkerboard"
# Two processes add the halves of a batch last and one adds sample by sample, so exact equality cannot be
# asked for: single precision (6e-8) leaves about 1e-7 of a gradient, and Adam, which divides by its size,
# 1e-6 of the weights where it is small. Gradients that are not summed change the weights by 4e-2, and a
# factor, which Adam takes out again, the logs by 1.
TOLERANCE = 1e-5


def term(objective: str, share: float, region: str, **options: str) -> Term:
    return Term(objective=objective, share=share, times=TimesSettings(region=region), options=options)


# a batch of 7 is 4 + 3, and two processes take 2 + 2 and 1 + 2 of them; of one sample, the second takes all
LMD = [term("lmd", 0.5, "noise", gradient="full"), term("lmd", 0.5, "forward", gradient="full")]
CASES = {
    "mlp-si": ("mlp", "si", None, 7, 60),
    "mlp-lmd": ("mlp", "lmd", LMD, 7, 60),
    "mlp-thirds": ("mlp", "lmd", [term("lmd", 0.75, "noise"), term("si", 0.25, "diagonal")], 5, 20),
    "unet-lmd": ("unet", "lmd", LMD, 15, 10),
}


@pytest.fixture(scope="module")
def jobs(smoke, tmp_path_factory):
    """jobs(folder): the cases, their states in `folder`, their teachers trained once for all."""
    shared = tmp_path_factory.mktemp("teachers")
    base = smoke.experiment(FMM)
    unet = UNetSettings(
        kind="unet", channels=[8, 16], layers=1, attention=[False, True], groups=4, time_scale=10.0
    )
    settings = {
        "mlp": base.training,
        "unet": base.training.model_copy(update={"data": "digits", "network": unet}),
    }
    teachers = {}
    for kind, own in settings.items():
        job = run.Job(
            own.model_copy(update={"batch": 16}),
            base.method("si").model_copy(update={"steps": 5}),
            1,
            shared / f"{kind}.state",
        )
        run.advance(job, "mark", 5)
        teachers[kind] = shared / f"{kind}.safetensors"
        train.publish(job, "mark", teachers[kind])

    def at(folder: Path) -> dict[str, run.Job]:
        made = {}
        for name, (kind, method, terms, batch, steps) in CASES.items():
            own = base.method(method).model_copy(
                update={"steps": steps} | ({"terms": terms} if terms else {})
            )
            shared = settings[kind].model_copy(update={"batch": batch})
            made[name] = run.Job(
                shared, own, 0, folder / f"{name}.safetensors", teachers[kind] if own.teacher else None
            )
        return made

    return at


def runs(*jobs: run.Job) -> list[train.Run]:
    """Trainings that wait for no other and publish nothing."""
    return [
        train.Run(job.method.steps, lambda job=job: (job, "mark"), lambda job, mark: None) for job in jobs
    ]


@pytest.fixture(scope="module")
def both(jobs, tmp_path_factory) -> tuple[dict[str, run.Job], dict[str, run.Job]]:
    """Every case trained by one process and by two; both in slices, as `train_all` cuts them."""
    trained = []
    for processes in (1, 2):
        made = jobs(tmp_path_factory.mktemp(f"by-{processes}"))
        compute = Compute(device="cpu", workers=1, processes=processes)
        train.train_all(runs(*made.values()), compute, "training")
        trained.append(made)
    return tuple(trained)


def together(tensors: dict[str, Tensor], prefix: str) -> Tensor:
    return torch.cat([v.flatten() for k, v in sorted(tensors.items()) if k.startswith(prefix)])


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_trains(both, name):
    (one, info), (two, other) = (load_checkpoint(made[name].state) for made in both)
    assert info == other and info["step"] == CASES[name][-1]
    assert torch.equal(one["generator"], two["generator"]), "the random numbers must be those of one process"
    start = torch.cat([v.flatten() for _, v in sorted(both[0][name].fresh().state_dict().items())])
    for part in ("student.", "ema."):
        ours, theirs = together(two, part), together(one, part)
        assert (theirs - start).norm() > 1e-2 * theirs.norm(), "the weights must have moved"
        difference = (ours - theirs).norm() / theirs.norm()
        assert difference < TOLERANCE, f"{part} {difference:.1e}"
    # the loss and the gradient's norm are those of the whole batch, at every step
    difference = ((one["log"] - two["log"]).abs() / one["log"].abs()).max()
    assert difference < TOLERANCE, f"{difference:.1e}"


FORKS = pytest.mark.skipif(
    not kernels.wanted({"FEWSTEP_WARM": "1"}), reason="processes are forked on Linux, where there is no GPU"
)


@FORKS
def test_forks_train_the_same_bits_as_fresh_processes(both, jobs, tmp_path, monkeypatch):
    monkeypatch.delenv(START_METHOD, raising=False)
    assert pool.start_method() == "spawn"
    monkeypatch.setenv(START_METHOD, "fork")
    assert pool.start_method() == "fork"
    made = {name: job for name, job in jobs(tmp_path).items() if name in ("mlp-lmd", "unet-lmd")}
    train.train_all(runs(*made.values()), Compute(device="cpu", workers=1, processes=2), "training")
    for name, job in made.items():
        assert job.state.read_bytes() == both[1][name].state.read_bytes()


@FORKS
def test_forks_of_a_process_that_has_a_place_already_are_refused():
    code = (
        "from accelerate import PartialState\nfrom fewstep.training import pool\n"
        "PartialState(cpu=True)\npool.spread(print, (), 2, 'cpu', lambda: None)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {START_METHOD: "fork"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        found.returncode == 1
        and "takes itself for one of 1: accelerate was used before training" in found.stderr
    ), found.stderr


def test_a_finished_run_starts_no_process(both, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(train, "spread", never)
    job = both[1]["mlp-si"]
    before = job.state.read_bytes()
    train.train_all(runs(job), Compute(device="cpu", workers=1, processes=2), "training")
    assert job.state.read_bytes() == before


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("start, size", [(0, 7), (4, 6), (2, 1), (3, 0)])
def test_shares_are_the_whole_without_overlap(count, start, size):
    shares = [Processes(rank, count).share(start, size) for rank in range(count)]
    assert [k for a, b in shares for k in range(a, b)] == list(range(start, start + size))
    sizes = [b - a for a, b in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux lists its sockets there")
def test_the_processes_meet_where_no_other_machine_can_reach_them():
    store = pool.loopback_store()
    port = f":{store.port:04X}"
    lines = [
        line.split()
        for kind in ("tcp", "tcp6")
        if (table := Path("/proc/net") / kind).exists()
        for line in table.read_text(encoding="ascii").splitlines()[1:]
    ]
    # 0A: it listens, and at 127.0.0.1 alone
    assert {local for _, local, _, state, *_ in lines if local.endswith(port) and state == "0A"} == {
        f"0100007F{port}"
    }


def sum_and_tell(processes: Processes, folder: Path) -> None:
    """Gradients rank + 1 beside one that only the second process has; what comes of them goes to a file."""
    weights = [
        torch.nn.Parameter(torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)),
        torch.nn.Parameter(torch.zeros(3)),
    ]
    weights[0].grad = torch.arange(96.0).view(2, 3, 4, 4).contiguous(memory_format=torch.channels_last) * (
        processes.rank + 1
    )
    if processes.rank == 1:
        weights[1].grad = torch.tensor([1.0, 2.0, 3.0])
    loss = processes.sum(torch.tensor(0.5 + processes.rank), weights)
    strides = weights[0].grad.stride() == weights[0].stride()
    told = [
        float(loss),
        weights[0].grad.flatten().tolist(),
        weights[1].grad.tolist(),
        strides,
        processes.is_main,
        torch.get_num_threads(),
    ]
    (folder / f"{processes.rank}.json").write_text(json.dumps(told), encoding="utf-8")
    processes.wait()
    assert len(list(folder.iterdir())) == 2, "all wait for all"


def test_the_sum_is_the_same_on_both_and_a_missing_gradient_is_zero(tmp_path):
    pool.spread(sum_and_tell, (tmp_path,), 2, "cpu", lambda: None)
    told = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    for rank in range(2):
        assert told[rank] == [2.0, [3.0 * k for k in range(96)], [1.0, 2.0, 3.0], True, rank == 0, 1]


def stop_one(processes: Processes) -> None:
    """The second process stops; the first would wait for it."""
    if processes.rank == 1:
        raise ValueError("the disk is full")
    processes.wait()
    time.sleep(300)


def test_one_process_that_stops_ends_the_others_and_says_why():
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="^process 1 of 2 stopped: ValueError: the disk is full$"):
        pool.spread(stop_one, (), 2, "cpu", lambda: None)
    assert time.monotonic() - began < 60


ORPHANS = """
import os, sys, time
from pathlib import Path
from fewstep.training import pool
def stay(processes, folder):
    (folder / str(os.getpid())).touch()
    time.sleep(300)
if __name__ == "__main__":
    pool.spread(stay, (Path(sys.argv[1]),), 2, "cpu", lambda: None)
"""


def test_processes_whose_parent_is_killed_leave(tmp_path, root):
    script, folder = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(ORPHANS, encoding="utf-8")
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    pids = [int(p.name) for p in folder.iterdir()]
    assert len(pids) == 2
    alive = pids
    while alive and time.monotonic() < deadline + 10:
        time.sleep(0.1)
        # one that has ended and that nobody has asked about is a zombie, in state Z
        alive = [
            pid
            for pid in pids
            if (stat := Path(f"/proc/{pid}/stat")).exists()
            and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
        ]
    assert not alive


class Second(Processes):
    """The second of two processes, whose first is not there: nothing is summed or waited for."""

    def sum(self, loss: Tensor, parameters: object) -> Tensor:
        return loss

    def wait(self) -> None:
        return


def test_only_the_main_process_writes_and_tells(jobs, tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(run.time, "monotonic", lambda: 2 * next(clock))
    job, told = jobs(tmp_path)["mlp-si"], []
    assert run.advance(job, "mark", 3, told.append, Second(1, 2)) == 3
    run.advance(job, "mark", 3, None, Second(1, 2))
    assert not list(tmp_path.iterdir()) and not told
    run.advance(job, "mark", 3, told.append, Second(0, 2))
    assert job.state.exists() and told == [1, 2, 3]


def test_a_batch_too_small_for_the_processes_is_refused(jobs, tmp_path):
    with pytest.raises(
        ValueError, match="8 processes cannot share the samples of a batch of 7: lower `processes`"
    ):
        run.advance(jobs(tmp_path)["mlp-si"], "mark", 3, None, Second(0, 8))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    several.require_cuda(2)
    with pytest.raises(RuntimeError, match="trains on 4 GPUs .* and 2 are visible: lower `processes`"):
        several.require_cuda(4)


LAUNCHED = """
import pickle, sys
from pathlib import Path
from fewstep.training import job as run, processes as several
job = pickle.loads(Path(sys.argv[1]).read_bytes())
if len(sys.argv) > 2:
    run.advance(job, "mark", job.method.steps, processes=several.join("cpu"))
else:
    run.advance(job, "mark", job.method.steps)
    assert "accelerate" not in sys.modules, "a single process does not need Accelerate"
"""


def test_a_script_under_torchrun_trains_the_same(jobs, tmp_path, root):
    made = {
        name: replace(jobs(tmp_path)["mlp-lmd"], state=tmp_path / f"{name}.safetensors")
        for name in ("alone", "launched")
    }
    script = tmp_path / "script.py"
    script.write_text(LAUNCHED, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # what `accelerate launch` calls for several GPUs; for several processes of a CPU it wants an mpirun
    launch = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(port),
    ]
    for name, before, after in (("alone", [], []), ("launched", launch, ["several"])):
        (tmp_path / name).write_bytes(pickle.dumps(made[name]))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(
            [sys.executable, *before, str(script), str(tmp_path / name), *after],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_checkpoint(made[name].state)[0] for name in ("alone", "launched"))
    for part in ("student.", "ema."):
        assert (together(one, part) - together(two, part)).norm() < TOLERANCE * together(one, part).norm()
    assert not torch.equal(together(one, "student."), together(two, "student.")), (
        "two processes sum in another order: did two run?"
    )
