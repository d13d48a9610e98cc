"""Training: exact resumption, a real kill, and the same bits however the work is shared out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from fewstep.flows.interpolants import Batch
from fewstep.settings.tiers import Compute
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint
from fewstep.storage.fingerprint import UNCOUNTED, closure
from fewstep.storage.workspace import Workspace
from fewstep.training import job as run
from fewstep.training import train
from fewstep.training.experiment import Experiment
from fewstep.training.loops import terms

FMM, SELF = "fmm-checkerboard", "selfdistill-checkerboard"


@pytest.fixture(scope="module")
def jobs(smoke, tmp_path_factory):
    """job(experiment, method, name): a run of the smoke tier, its teacher trained once for all."""
    folder = tmp_path_factory.mktemp("jobs")
    teacher = folder / "teacher.safetensors"

    def job(experiment: str, method: str, name: str) -> run.Job:
        settings = smoke.experiment(experiment)
        own = settings.method(method)
        # SOAP's state has the most in it to get wrong
        shared = settings.training.model_copy(update={"optimiser": smoke.tour.training.optimiser})
        return run.Job(shared, own, 0, folder / f"{name}.safetensors", teacher if own.teacher else None)

    first = job(FMM, "si", "si")
    run.advance(first, first.fingerprint(), first.method.steps)
    train.publish(first, first.fingerprint(), teacher)
    return job


@pytest.mark.parametrize("experiment, method", [(FMM, "lmd"), (FMM, "pfmm"), (SELF, "lsd"), (SELF, "psd-u")])
def test_a_run_in_pieces_is_the_run_in_one_go(jobs, experiment, method):
    whole, pieces = jobs(experiment, method, f"{method}-whole"), jobs(experiment, method, f"{method}-pieces")
    steps = whole.method.steps
    run.advance(whole, "mark", steps)
    # 20 is the first step of the second of pfmm's six stages of 120 steps, 41 lies inside the third
    for until in (1, 20, 41, steps - 1, steps):
        run.advance(pieces, "mark", until)
    assert whole.state.read_bytes() == pieces.state.read_bytes()


def test_a_staged_run_follows_its_stages(jobs):
    job = jobs(FMM, "pfmm", "stages")
    run.advance(job, "mark", 20)
    before = load_checkpoint(job.state)[0]
    run.advance(job, "mark", 21)
    after = load_checkpoint(job.state)[0]
    for name, value in before.items():
        if name.startswith("ema."):
            assert torch.equal(after["stage." + name.removeprefix("ema.")], value), (
                "the student must become the teacher"
            )


def test_an_objective_sees_how_far_training_is(jobs, monkeypatch):
    seen, drawn = [], terms.Loop.draw_batch

    def watch(*own: object) -> Batch:
        seen.append(drawn(*own))
        return seen[-1]

    monkeypatch.setattr(terms.Loop, "draw_batch", watch)
    job = jobs(FMM, "lmd", "progress")
    for until in (2, 5):
        run.advance(job, "mark", until)
    assert [batch.progress for batch in seen] == [step / job.method.steps for step in range(5)]


def test_a_state_of_another_run_is_refused(jobs):
    job = jobs(FMM, "lmd", "foreign")
    run.advance(job, "mark", 2)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        run.advance(job, "other", 4)


def test_a_damaged_state_is_refused_and_kept(jobs):
    job = jobs(FMM, "lmd", "damaged")
    run.advance(job, "mark", 2)
    job.state.write_bytes(job.state.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is damaged"):
        run.advance(job, "mark", 4)
    assert job.state.exists()


def test_an_unfinished_run_is_not_published(jobs, tmp_path):
    job = jobs(FMM, "lmd", "unfinished")
    run.advance(job, "mark", 2)
    with pytest.raises(CheckpointError, match="stands at step 2 of 120"):
        train.publish(job, "mark", tmp_path / "out.safetensors")


def test_the_fingerprint_knows_settings_seed_and_teacher(jobs, smoke):
    job = jobs(FMM, "lmd", "print")
    seen = {job.fingerprint()}
    seen.add(replace(job, seed=1).fingerprint())
    seen.add(replace(job, method=job.method.model_copy(update={"steps": 121})).fingerprint())
    seen.add(replace(job, training=job.training.model_copy(update={"batch": 130})).fingerprint())
    seen.add(replace(job, teacher=None, method=smoke.experiment(FMM).method("si")).fingerprint())
    assert len(seen) == 5
    counted = closure(job.modules, UNCOUNTED)
    named = {"objectives.lmd", "networks.mlp", "networks.forward_mode.perceptron", "data.checkerboard"}
    named |= {"training.optimisers", "flows.times", "flows.flow_map", "training.job"}
    assert {f"fewstep.{name}" for name in named} <= set(counted)
    # settings count by value: a new key in the schema must not throw a training away
    assert not {"fewstep.settings.tiers", "fewstep.training.experiment", "fewstep.objectives.emd"} & set(
        counted
    )
    # neither the label nor the list of seeds changes what one seed computes
    assert replace(job, method=job.method.model_copy(update={"label": "x"})).fingerprint() in seen
    assert replace(job, training=job.training.model_copy(update={"seeds": [0, 1, 2]})).fingerprint() in seen


@pytest.mark.parametrize("workers, threads", [(1, "2"), (2, "1"), (2, "2")])
def test_workers_and_threads_do_not_change_a_bit(root, tmp_path, monkeypatch, workers, threads):
    def weights(name: str, workers: int, threads: str) -> bytes:
        code = (
            "from dataclasses import replace\n"
            "from fewstep.training.experiment import Experiment\n"
            "from fewstep.training import train as training\n"
            "experiment = Experiment.open('smoke', 'fmm-checkerboard')\n"
            f"compute = experiment.compute.model_copy(update={{'workers': {workers}}})\n"
            "experiment = replace(experiment, compute=compute)\n"
            "training.train(experiment, 'si')\n"
        )
        environment = os.environ | {
            "FEWSTEP_SCRATCH": str(tmp_path / name),
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=environment, check=True, capture_output=True
        )
        return b"".join(
            p.read_bytes() for p in sorted((tmp_path / name / "smoke" / FMM / "teacher" / "si").iterdir())
        )

    assert weights("one", 1, "1") == weights("other", workers, threads)


TRAIN = """
from dataclasses import replace
from fewstep.training.experiment import Experiment
from fewstep.training import train as training
experiment = Experiment.open("smoke", "fmm-checkerboard")
methods = {"si": experiment.settings.method("si").model_copy(update={"steps": 1500})}
methods["lmd"] = experiment.settings.method("lmd").model_copy(update={"steps": 200})
experiment = replace(experiment, settings=experiment.settings.model_copy(update={"methods": methods}))
experiment = replace(experiment, compute=experiment.compute.model_copy(update={"workers": 2}))
if __name__ == "__main__":
    training.train(experiment, "lmd", "si")
    print("finished")
"""


def test_a_training_killed_for_real_ends_with_the_same_bits(root, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN, encoding="utf-8")

    def start(name: str) -> subprocess.Popen:
        environment = os.environ | {"FEWSTEP_SCRATCH": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, str(script)],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    undisturbed = start("calm")
    assert b"finished" in undisturbed.communicate(timeout=300)[0]
    states = tmp_path / "killed" / "smoke" / "states" / FMM / "si"
    kills = 0
    for wanted in (1, 2, 3, 5):
        process = start("killed")
        # wait until this start has brought the run further, then pull the plug
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            steps = (
                [load_checkpoint(p)[1]["step"] for p in states.glob("*.safetensors")]
                if states.exists()
                else []
            )
            if sum(steps) >= wanted * 125:
                os.kill(process.pid, signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                time.sleep(1.5)  # the orphaned workers must notice and leave
                break
        process.stdout.close()
    assert kills >= 3, "the run ended before it was killed three times"
    assert b"finished" in start("killed").communicate(timeout=300)[0]
    calm, killed = (sorted((tmp_path / n / "smoke" / FMM).rglob("*.safetensors")) for n in ("calm", "killed"))
    assert [p.name for p in calm] == [p.name for p in killed] and len(calm) == 4
    for a, b in zip(calm, killed):
        assert a.read_bytes() == b.read_bytes()


class Watched:
    """Runs that are no trainings: what is opened, advanced and published, in order."""

    def __init__(self, monkeypatch, paces: dict[str, float], finished: set[str] = frozenset()):
        self.events, self.at = [], {name: 0 for name in paces}
        self.paces, self.finished = paces, finished
        monkeypatch.setattr(
            train, "_to_come", lambda name, mark: [] if name in finished else train._slices(600)
        )

    def run(self, name: str, after: int | None = None) -> train.Run:
        def opened():
            self.events.append(f"open {name}")
            return name, "mark"

        def published(job, mark):
            self.events.append(f"publish {job}")

        return train.Run(600, opened, published, () if after is None else (after,))


def test_the_longest_chain_goes_first_and_a_student_waits_for_its_teacher(monkeypatch):
    watched = Watched(monkeypatch, {"short": 1.0, "rectified": 1.0, "distilled": 1.0})
    runs = [watched.run("short"), watched.run("rectified"), watched.run("distilled", after=1)]
    schedule = train._Schedule(runs)
    assert watched.events == ["open short", "open rectified"]
    assert schedule.left(1) == 1200 > schedule.left(0) == 600, "what waits for it counts"
    for _ in range(12):
        schedule.advanced(0, 100.0)
    # two seconds a step: what was not measured yet is taken to be as slow
    assert schedule.left(0) == 0 and schedule.left(1) == 2400 and 0 in schedule.finished
    while 1 not in schedule.finished:
        schedule.advanced(1, 25.0)
    assert watched.events[-2:] == ["publish rectified", "open distilled"]
    assert schedule.left(2) == 600 * 2.0
    schedule.advanced(2, 5.0)
    assert schedule.left(2) == pytest.approx(550 * 0.1)


def test_what_is_finished_is_published_and_not_trained(monkeypatch):
    watched = Watched(monkeypatch, {"teacher": 1.0, "student": 1.0}, {"teacher", "student"})
    runs = [watched.run("teacher"), watched.run("student", after=0)]
    monkeypatch.setattr(train, "pool", lambda workers: pytest.fail("no process is wanted"))
    monkeypatch.setattr(train, "_reached", lambda job: 600)
    train.train_all(runs, Compute(device="cpu", workers=2), "training")
    assert watched.events == ["open teacher", "publish teacher", "open student", "publish student"]


@pytest.mark.parametrize("workers", [1, 2])
def test_methods_side_by_side_are_the_methods_one_by_one(root, tmp_path, workers):
    """All students of a tier's experiment, one of which has another as its teacher, in one go and one at a
    time.
    """
    code = """
from dataclasses import replace
from fewstep.training.experiment import Experiment
from fewstep.training import train as training
experiment = Experiment.open("smoke", "fmm-checkerboard")
own = experiment.settings
methods = {name: m.model_copy(update={"steps": 60}) for name, m in own.methods.items()}
methods["emd"] = methods["emd"].model_copy(update={"teacher": "lmd"})
experiment = replace(experiment, settings=own.model_copy(update={"methods": methods}))
experiment = replace(experiment, compute=experiment.compute.model_copy(update={"workers": WORKERS}))
if __name__ == "__main__":
    for names in NAMES:
        training.train(experiment, *names)
"""

    def weights(name: str, workers: int, names: list[list[str]]) -> dict[str, bytes]:
        script = tmp_path / f"{name}.py"
        script.write_text(
            code.replace("WORKERS", str(workers)).replace("NAMES", repr(names)), encoding="utf-8"
        )
        environment = os.environ | {"FEWSTEP_SCRATCH": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, str(script)], cwd=root, env=environment, check=True)
        folder = tmp_path / name / "smoke" / FMM
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.safetensors")}

    apart = weights("apart", 1, [["si"], ["lmd"], ["emd"], ["fmm"]])
    together = weights("together", workers, [["emd", "fmm", "si", "lmd"]])
    assert apart == together and len(apart) == 8


def test_a_missing_teacher_is_one_sentence(root, smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_SCRATCH", str(tmp_path))
    experiment = Experiment(
        FMM, Workspace(tmp_path / "nowhere", "smoke"), smoke.experiment(FMM), Compute(device="cpu", workers=1)
    )
    with pytest.raises(FileNotFoundError, match="si/seed-0.safetensors is not there: run `dvc repro`"):
        train.train(experiment, "lmd")
