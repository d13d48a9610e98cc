"""Train a method of an experiment: every seed, on every core, going on from whatever is on disk.

A run is cut into slices, each from a stored state to the next, so that three seeds share two cores evenly and a
killed run loses one slice at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.formats.archives import folder_of
from ..settings.tiers import Compute
from ..settings.training import Method
from ..storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..storage.files import write_atomically
from ..storage.progress import Progress
from .experiment import Experiment
from .job import Job, advance, marker
from .pool import pool
from .processes import Processes, spread
from .weights import load_log, weights_file

SLICES = 12


def _slices(steps: int) -> list[int]:
    """The steps after which a run stores its state: every twelfth of it, between 50 and 5,000 steps apart."""
    size = max(min(-(-steps // SLICES), 5000), 50)
    return [*range(size, steps, size), steps]


def _to_come(job: Job) -> list[int]:
    """The slices that the state on disk has not reached; none for a finished run, which is left untouched."""
    done = load_checkpoint(job.state)[1]["step"] if job.state.exists() else 0
    return [until for until in _slices(job.method.steps) if until > done]


def _reached(job: Job) -> int:
    """The step at which the run on disk stands, by its latest state or its progress marker."""
    try:
        return int(marker(job.state).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _take_turns(processes: Processes, turns: Sequence[tuple[Job, str, int]]) -> None:
    """What each of several processes that train together does: bring every job to its step, one after the other."""
    for job, mark, until in turns:
        advance(job, mark, until, processes=processes)
        if processes.is_main:
            write_atomically(marker(job.state), str(until).encode())


def train_all(jobs: Sequence[Job], marks: Sequence[str], compute: Compute, label: str) -> None:
    """Train every job to its end (`marks` are their fingerprints), at most `compute.workers` at a time, going on from the states on disk.

    The seeds advance in turn, a slice at a time, so that three of them keep two cores busy to the end. With
    `compute.processes` above 1 each job has all processes, which are started for the occasion, to itself.
    """
    total = sum(job.method.steps for job in jobs)
    with Progress(total, label) as bar:
        if compute.processes > 1:
            turns = [(job, mark, until) for job, mark in zip(jobs, marks) for until in _to_come(job)]
            if turns:
                spread(
                    _take_turns,
                    (turns,),
                    compute.processes,
                    compute.device,
                    lambda: bar.update(sum(map(_reached, jobs))),
                )
            return
        if compute.workers == 1 or len(jobs) == 1 or compute.device == "cuda":
            before = 0
            for job, mark in zip(jobs, marks):
                for until in _to_come(job):
                    advance(job, mark, until, lambda step, base=before: bar.update(base + step))
                    bar.update(before + until)
                before += job.method.steps
            return
        with pool(min(compute.workers, len(jobs))) as executor:
            todo = {k: slices for k, job in enumerate(jobs) if (slices := _to_come(job))}
            running: dict = {}
            while todo or running:
                # the seeds that have most left go first
                idle = sorted((k for k in todo if k not in running.values()), key=lambda k: -len(todo[k]))
                for k in idle[: compute.workers - len(running)]:
                    running[executor.submit(advance, jobs[k], marks[k], todo[k][0])] = k
                finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    k = running.pop(future)
                    write_atomically(marker(jobs[k].state), str(future.result()).encode())
                    todo[k] = todo[k][1:]
                    if not todo[k]:
                        del todo[k]
                bar.update(sum(_reached(job) for job in jobs))


def publish(job: Job, path: Path) -> None:
    """Write the finished run's averaged weights and its log to `path`: what the rest of the pipeline reads."""
    tensors, info = load_checkpoint(job.state)
    if info["step"] != job.method.steps:
        raise CheckpointError(
            f"{job.state} stands at step {info['step']} of {job.method.steps}: finish the training first"
        )
    weights = {f"weights.{k.removeprefix('ema.')}": v for k, v in tensors.items() if k.startswith("ema.")}
    log = {
        f"log.{name}": column.contiguous()
        for name, column in zip(info["columns"], tensors["log"].unbind(1), strict=True)
    }
    described = {
        "fingerprint": info["fingerprint"],
        "network": job.network.model_dump(),
        "shape": list(job.source.shape),
        "data": job.training.data,
        "seed": job.seed,
        "steps": job.method.steps,
        "drawn": job.method.steps * job.training.batch,
    }
    save_checkpoint(path, weights | log, described)


def jobs(experiment: Experiment, method: str) -> list[tuple[Job, str]]:
    """The training of `method` for each of its seeds, and its fingerprint.

    States are kept below the tier's `states` folder, by fingerprint: a run whose settings or code changed starts
    afresh, and going back to the old ones finds it where it was.
    """
    settings, teacher = experiment.settings, experiment.settings.method(method).teacher
    found = []
    for seed in settings.training.seeds:
        taught_by = (
            experiment.workspace.read(weights_file(experiment.name, teacher, seed)) if teacher else None
        )
        draft = Job(
            settings.training,
            settings.method(method),
            seed,
            Path(),
            taught_by,
            experiment.compute.device,
            experiment.data_folder,
        )
        mark = draft.fingerprint()
        state = experiment.workspace.write(
            f"states/{experiment.name}/{method}/seed-{seed}-{mark}.safetensors"
        )
        found.append((replace(draft, state=state), mark))
    return found


def _taken(experiment: Experiment, method: str, file: Path) -> dict[int, Path]:
    """The trained weights in `file` as the method's, for every seed; returns their files by seed.

    Raises CheckpointError where the file is absent or damaged, or of another network than the method's.
    """
    settings, found = experiment.settings, {}
    tensors, info = load_checkpoint(file)
    wanted = (settings.method(method).network or settings.training.network).model_dump()
    for what, theirs, ours in (
        ("network", info.get("network"), wanted),
        ("shape", tuple(info.get("shape", ())), experiment.source.shape),
    ):
        if theirs != ours:
            raise CheckpointError(
                f"{file} holds weights of another {what}, {theirs}, and {experiment.name} has {ours}: convert the right file, or change params.yaml"
            )
    for seed in settings.training.seeds:
        found[seed] = experiment.workspace.write(weights_file(experiment.name, method, seed))
        save_checkpoint(found[seed], tensors, info | {"seed": seed})
    return found


def train(experiment: Experiment, method: str) -> dict[int, Path]:
    """Train `method` for all its seeds, or take the weights that its settings name, and write the flow maps; returns their files by seed."""
    if weights := experiment.settings.method(method).weights:
        folder, _, name = weights.partition("/")
        return _taken(experiment, method, folder_of(folder) / name)
    todo, marks = zip(*jobs(experiment, method))
    train_all(
        todo,
        marks,
        experiment.compute.of(experiment.settings.training),
        f"training {experiment.name} {method}",
    )
    files = {}
    for job in todo:
        files[job.seed] = experiment.workspace.write(weights_file(experiment.name, method, job.seed))
        publish(job, files[job.seed])
    return files


def recipe_table(method: Method) -> pd.DataFrame:
    """The terms of a method for people: objective, share of the batch, times and settings."""
    rows = []
    for term in method.terms:
        times = ", ".join(f"{k} {v}" for k, v in term.times.model_dump(exclude_defaults=True).items())
        rows.append(
            {
                "share": term.share,
                "times": times,
                "settings": ", ".join(f"{k} = {v}" for k, v in term.options.items()),
            }
        )
    return pd.DataFrame(rows, index=pd.Index([term.objective for term in method.terms], name="objective"))


def summary(experiment: Experiment, method: str, files: dict[int, Path]) -> pd.DataFrame:
    """One row a seed: steps, samples drawn, mean loss of the last tenth, median gradient norm; or the file that the weights were taken from."""
    if weights := experiment.settings.method(method).weights:
        return pd.DataFrame({"taken from": {f"seed {seed}": weights for seed in files}})
    rows = {}
    for seed, path in files.items():
        log, steps = load_log(path), experiment.settings.method(method).steps
        rows[f"seed {seed}"] = {
            "steps": steps,
            "samples drawn": f"{steps * experiment.settings.training.batch:,}",
            "loss, last tenth": round(float(log["loss"][-max(steps // 10, 1) :].mean()), 4),
            "gradient norm, median": round(float(np.median(log["gradient_norm"])), 4),
        }
    return pd.DataFrame(rows).T
