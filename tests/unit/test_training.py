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

from fewstep.settings.tiers import Compute
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint
from fewstep.storage.fingerprint import UNCOUNTED, closure
from fewstep.storage.workspace import Workspace
from fewstep.training import job as run
from fewstep.training import train
from fewstep.training.experiment import Experiment

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
    train.publish(first, teacher)
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
        train.publish(job, tmp_path / "out.safetensors")


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
            "from fewstep.training.experiment import Experiment\nfrom fewstep.training import train as training\n"
            "experiment = Experiment.open('smoke', 'fmm-checkerboard')\n"
            f"experiment = replace(experiment, compute=experiment.compute.model_copy(update={{'workers': {workers}}}))\n"
            "files = training.train(experiment, 'si')\n"
        )
        environment = os.environ | {
            "FEWSTEP_SCRATCH": str(tmp_path / name),
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=environment, check=True, capture_output=True
        )
        return b"".join(p.read_bytes() for p in sorted((tmp_path / name / "smoke" / FMM / "si").iterdir()))

    assert weights("one", 1, "1") == weights("other", workers, threads)


TRAIN = """
from dataclasses import replace
from fewstep.training.experiment import Experiment
from fewstep.training import train as training
experiment = Experiment.open("smoke", "fmm-checkerboard")
methods = {"si": experiment.settings.method("si").model_copy(update={"steps": 1500})}
experiment = replace(experiment, settings=experiment.settings.model_copy(update={"methods": methods}))
experiment = replace(experiment, compute=experiment.compute.model_copy(update={"workers": 2}))
if __name__ == "__main__":
    training.train(experiment, "si")
    print("finished")
"""


def test_a_training_killed_for_real_ends_with_the_same_bits(root, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN)

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
    calm, killed = (sorted((tmp_path / n / "smoke" / FMM / "si").iterdir()) for n in ("calm", "killed"))
    assert [p.name for p in calm] == [p.name for p in killed] and len(calm) == 2
    for a, b in zip(calm, killed):
        assert a.read_bytes() == b.read_bytes()


def test_a_missing_teacher_is_one_sentence(root, smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_SCRATCH", str(tmp_path))
    experiment = Experiment(
        FMM, Workspace(tmp_path / "nowhere", "smoke"), smoke.experiment(FMM), Compute(device="cpu", workers=1)
    )
    with pytest.raises(FileNotFoundError, match="si/seed-0.safetensors is not there: run `dvc repro`"):
        train.train(experiment, "lmd")
