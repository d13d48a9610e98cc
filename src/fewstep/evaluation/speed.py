"""What a sample costs: seconds a network call and, from them, seconds an image, beside its quality."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from ..flows.conditioning import conditioned, is_conditional
from ..settings.tiers import ExperimentSettings
from ..training import weights
from ..training.experiment import Experiment
from ..training.precision import one_thread
from . import claims, measure, provenance, published, tables
from .measures import FID
from .sample import labels
from .statistics import calls_to_match

ONE, BEST = "seconds per image, batch 1", "seconds per image, best batch"
DECODING = "decoding"
# calls before the clock starts: the first ones choose algorithms and fill caches
WARM_UP = 3


@torch.no_grad()
def _seconds(call: Callable[[], object], repeats: int, device: str) -> list[float]:
    # on a CPU this thread's own seconds, whatever else the machine is doing
    clock, found = time.thread_time if device == "cpu" else time.perf_counter, []
    for _ in range(WARM_UP + repeats):
        start = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(clock() - start)
    return found[WARM_UP:]


def _teacher(settings: ExperimentSettings) -> str:
    """The method whose network is timed: the experiment's teacher, or the first method that has none."""
    if settings.metrics.reference:
        return settings.metrics.reference.method
    return next(name for name, method in settings.methods.items() if method.teacher is None)


def calls(experiment: Experiment) -> pd.DataFrame:
    """Seconds an image of one call of the teacher's network, which its students share.

    Columns: call ("velocity", "jump" or "decoding"), batch, repeat, seconds (a call's, divided by the batch).
    """
    settings, device = experiment.settings, experiment.compute.device
    flow_map = weights.first_flow_map(experiment, _teacher(settings)).to(device)
    source, rows = experiment.source, []
    with one_thread():
        for batch in settings.speed.batches:
            x, zero = torch.randn(batch, *source.shape, device=device), torch.zeros(batch, device=device)
            one, timed = torch.ones_like(zero), flow_map
            if is_conditional(source):
                timed = conditioned(flow_map, source.empty.times(batch).to(device))
            kinds = {"velocity": lambda: timed.velocity(zero, x), "jump": lambda: timed.jump(zero, one, x)}
            if experiment.data_folder:
                kinds[DECODING] = lambda: source.decode(x)
            for kind, call in kinds.items():
                taken = enumerate(_seconds(call, settings.speed.repeats, device))
                rows += [(kind, batch, k, seconds / batch) for k, seconds in taken]
    return pd.DataFrame(rows, columns=["call", "batch", "repeat", "seconds"])


def by_batch(timed: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds an image of one call, the median over repeats: kinds down, batches across."""
    wide = timed.pivot_table(index="call", columns="batch", values="seconds", aggfunc="median")
    return (1e3 * wide).rename(columns=lambda n: f"batch {n}").rename_axis(columns="ms an image")


def table(experiment: Experiment, timed: pd.DataFrame, name: str, notebook: str) -> pd.DataFrame:
    """The table `name`: FID and seconds an image of every row of the experiment, in the tables' columns."""
    rows = measure.load(experiment)
    quality = tables.build(experiment, rows[rows.metric == FID])[experiment.name]
    return tables.with_cost(quality, seconds(experiment, timed, quality, notebook), name)


def seconds(
    experiment: Experiment, timed: pd.DataFrame, table: pd.DataFrame, notebook: str
) -> list[pd.DataFrame]:
    """Seconds an image for every FID of `table`, one at a time and in the best batch.

    The counted calls times the median of their repeats, and a decoding of latents; sd is of the repeats.
    """
    settings, quality = experiment.settings, table[table.metric == FID]
    samplers, repeats, decoded = settings.sampling.samplers, settings.speed.repeats, experiment.data_folder
    jumping = {own.label for name, own in settings.methods.items() if samplers[name] == "jumps"}
    traced = provenance.of_experiment(experiment, notebook)._asdict()
    also = " and one decoding" if decoded else ""
    also += ", seconds of one core" if experiment.compute.device == "cpu" else ""
    if not (timed.batch == 1).any():
        raise ValueError("`speed.batches` in params.yaml must hold the batch 1")
    cost, parts = timed.groupby(["call", "batch"]).seconds.agg(["median", "std"]), []
    for metric, best in ((ONE, False), (BEST, True)):
        found = []
        for row in quality.itertuples():
            call = cost.loc["jump" if row.method in jumping else "velocity"]
            batch = int(call["median"].idxmin()) if best else 1
            value, deviation = row.nfe * call.loc[batch]
            if decoded:
                once, spread = cost.loc[(DECODING, batch)]
                value, deviation = value + once, float(np.hypot(deviation, spread))
            found.append({"value": value, "sd": deviation, "samples": batch})
        how = f"calls counted x median of {repeats} timed calls{also}, one image's share"
        own = {"metric": metric, "sd_sampling": np.nan, "seeds": f"{repeats} timings"}
        own |= {"protocol": f"{how}, batch {'that takes least' if best else 1}"}
        own |= {"published": None, "status": published.NOT_ON_FILE, "source": "", **traced}
        parts.append(quality.assign(**pd.DataFrame(found, quality.index), **own))
    return parts


def at_equal_quality(experiment: Experiment, timed: pd.DataFrame) -> pd.DataFrame:
    """How much faster than flow matching each student is, one image at a time: a row a (method, N).

    The teacher's Euler calls that reach the student's FID are read off its curve, a mean over seeds; where it
    never gets there its most calls stand, and the ratios are lower bounds.
    """
    rows, settings = measure.load(experiment), experiment.settings
    rows = rows[rows.metric == FID]
    curve, names = rows[rows.method == settings.metrics.reference.method], labels(settings)
    call = timed[timed.batch == 1].groupby("call").seconds.median()
    found = {}
    for method in (name for name, own in settings.methods.items() if own.teacher is not None):
        for nfe in settings.sampling.steps[method]:
            (quality,), over = claims.by_seeds(rows, [(method, nfe, FID)])
            calls = float(np.mean(calls_to_match(curve, quality, claims.SEED[over])))
            found[names[method], nfe] = {
                "FID": round(float(quality.mean()), 2),
                "teacher's calls": round(calls, 1),
                "fewer calls": round(calls / nfe, 1),
                "less time": round(calls / nfe * call["velocity"] / call["jump"], 1),
            }
    table = pd.DataFrame.from_dict(found, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(found, names=["method", "N"]))
