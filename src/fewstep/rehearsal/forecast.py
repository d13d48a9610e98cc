"""How long the stages of a tier will take on this machine: what is measured of their parts, times their number."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .. import data
from ..evaluation import sample
from ..evaluation.measure_captions import CHECKED
from ..evaluation.measure_images import SUBSET_SIZE, kid_subsets
from ..flows import sampler_names
from ..pipeline import stages
from ..pipeline.stages import Stage
from ..settings.latents import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..training import autoencoder
from . import disk
from .rates import ClipPaces, CoderPaces, Pace
from .timers import Clock, TooLargeError

# an adaptive solver takes as many calls as it takes; this is what is reckoned with
ADAPTIVE_CALLS = 50


@dataclass(frozen=True)
class Row:
    """One stage of the forecast.

    work     what it consists of, in words
    seconds  what it will take, or None where nothing of it is forecast: minutes at most
    basis    what was measured
    device_bytes  the peak on the GPU of what was measured, or None
    problem  why it cannot run at all, or None
    """

    stage: str
    work: str
    seconds: float | None = None
    basis: str = ""
    device_bytes: int | None = None
    problem: str | None = None


def _basis(pace: Pace, batch: int) -> str:
    return f"measured at batch {batch}" if pace.batch == batch else f"in proportion from batch {pace.batch}"


def _latents(tier: Tier, experiment: ExperimentSettings) -> Latents | None:
    """What an experiment's latents are made by, where it models some."""
    return tier.latents.get(experiment.training.latents)


def _coder(latents: Latents | None, clock: Clock) -> CoderPaces:
    """What the autoencoder of latents takes; a small one, that is trained here, nothing that counts."""
    return (
        clock.coder(latents) if latents and latents.autoencoder.kind == "pretrained" else CoderPaces(0.0, 0.0)
    )


def _clip(tier: Tier, latents: Latents | None, clock: Clock) -> ClipPaces:
    """What the CLIP that reads the captions of latents takes; a small one, that is trained here, nothing that counts."""
    published = latents and latents.clip and tier.clip[latents.clip].kind == "published"
    return clock.clip(data.load(latents.data).shape[-1]) if published else ClipPaces(0.0, 0.0)


def _training(tier: Tier, experiment: ExperimentSettings, stage: str, name: str, clock: Clock) -> Row:
    method, batch, seeds = experiment.methods[name], experiment.training.batch, len(experiment.training.seeds)
    if method.weights:
        return Row(stage, "its weights are taken from a file", basis=method.weights)
    work = f"{method.steps:,} steps of {batch:,}" + (f" x {seeds} seeds" if seeds > 1 else "")
    try:
        pace = clock.step(experiment, method)
    except torch.OutOfMemoryError:
        return Row(
            stage,
            work,
            problem=f"a step at batch {batch} does not fit into the GPU's free memory: lower training.batch, or raise compute.processes",
        )
    except TooLargeError as error:
        return Row(stage, work, basis=str(error))
    # each of several processes has its share of the batch, and a CPU's workers each a seed
    processes = tier.compute.of(experiment.training).processes
    share = batch / processes
    together = min(tier.compute.workers, seeds) if tier.compute.device == "cpu" and processes == 1 else 1
    seconds = pace.seconds * share / pace.batch * method.steps * seeds / together
    return Row(stage, work, seconds, _basis(pace, round(share)), pace.device_bytes)


def _sampling(tier: Tier, experiment: ExperimentSettings, stage: str, clock: Clock) -> Row:
    """Network calls, and the decoding of what latents are drawn."""
    count, calls, drawn, seconds, pace = experiment.sampling.count, 0, 0, 0.0, None
    try:
        for draw in sample.plan(experiment):
            if draw.network == sample.EXACT:
                continue
            own = (sampler_names.calls_a_step(draw.sampler) or 0) * draw.steps or ADAPTIVE_CALLS
            pace = clock.call(experiment, experiment.methods[draw.network])
            calls, drawn = calls + own, drawn + 1
            seconds += own * count * pace.seconds / pace.batch
    except torch.OutOfMemoryError:
        problem = "a network call does not fit into the GPU's free memory, as many samples as are drawn together: free some, or take a larger GPU"
        return Row(stage, f"{count:,} samples", problem=problem)
    except TooLargeError as error:
        return Row(stage, f"{count:,} samples", basis=str(error))
    if pace is None:
        return Row(stage, "nothing is drawn from a network")
    decode = _coder(_latents(tier, experiment), clock).decode
    work = f"{calls:,} calls for each of {count:,} samples" + (f", decoded {drawn:,} times" if decode else "")
    return Row(
        stage,
        work,
        (seconds + drawn * count * decode) / tier.compute.workers,
        f"a call of {pace.batch}",
        pace.device_bytes,
    )


def _metrics(tier: Tier, experiment: ExperimentSettings, stage: str, clock: Clock) -> Row:
    """Features and metrics of every array of samples, and the self-checks of the data."""
    draws, count, measures = (
        len(sample.plan(experiment)),
        experiment.sampling.count,
        experiment.metrics.measures,
    )
    against, dimension = (
        disk.measured_against(tier, experiment.metrics.features),
        disk.dimension(tier, experiment),
    )
    latents = _latents(tier, experiment)
    shape = data.load(latents.data).shape if latents else tier.shape(experiment)
    pace = clock.metrics(shape, tier.features[experiment.metrics.features].extractor)
    # of every array; and of the data, once
    one, once = count * pace.image, against * pace.moment
    if "fid" in measures:
        one += count * pace.moment + pace.distance
    if "t_fid" in measures:
        one += 2 * count * pace.moment + pace.distance
    if "kid" in measures:
        subsets = kid_subsets(count, against)
        one += (
            (count**2 + count * against + against**2) if subsets is None else 3 * subsets * SUBSET_SIZE**2
        ) * pace.kid
    if {"precision", "recall"} & set(measures):
        one += (count + 2 * against) * count * pace.pair
        once += against**2 * pace.pair
    sizes = sum(against // 2**k > dimension for k in (2, 3, 4))
    # noise is as many images as there are to measure against
    checks = against * (pace.image + _coder(latents, clock).decode) + (4 + 3 * sizes) * (
        against * pace.moment + pace.distance
    )
    if "clip" in measures:
        own = _clip(tier, latents, clock)
        one += count * (own.image + own.text)
        checks += 2 * min(count, CHECKED) * (own.image + own.text)
    pairs = (
        f"; precision and recall over {(count + 2 * against) * count:,} pairs each"
        if {"precision", "recall"} & set(measures)
        else ""
    )
    return Row(
        stage,
        f"{draws} arrays of {count:,}{pairs}",
        draws * one / tier.compute.workers + once + checks,
        f"parts measured; {pace.extractor}",
    )


def _features(tier: Tier, stage: Stage, clock: Clock) -> Row:
    own = tier.features[stage.experiment]
    pace, count = (
        clock.metrics(data.load(own.data).shape, own.extractor),
        disk.measured_against(tier, stage.experiment),
    )
    return Row(stage.name, f"features of {count:,} images", count * pace.image, pace.extractor)


def _reconstruction(tier: Tier, stage: Stage, clock: Clock) -> Row:
    """A published autoencoder is found, and what it keeps of some images is measured."""
    own = tier.latents[stage.experiment]
    pace, parts = _coder(own, clock), 1 + data.offers(own.data, "held_out")
    count = parts * (own.measured or autoencoder.MEASURED)
    if not pace.encode:
        return Row(stage.name, "minutes at most")
    return Row(
        stage.name,
        f"{count:,} images encoded and decoded",
        count * (pace.encode + pace.decode),
        "an untrained autoencoder of its size",
    )


def _encoding(tier: Tier, stage: Stage, clock: Clock) -> Row:
    """Every image, where it is drawn so its mirror image too, and every caption."""
    own = tier.latents[stage.experiment]
    pace, read, count, flipped = (
        _coder(own, clock),
        _clip(tier, own, clock),
        disk.encoded(own),
        data.load(own.data).flip,
    )
    if not pace.encode:
        return Row(stage.name, "minutes at most")
    work = f"{count:,} images{' and their mirror images' if flipped else ''} encoded" + (
        ", their captions read" if read.text else ""
    )
    return Row(
        stage.name,
        work,
        count * ((1 + flipped) * pace.encode + read.text),
        "untrained networks of the published sizes",
    )


def _tour(tier: Tier, stage: Stage, clock: Clock) -> Row:
    parts = [_training(tier, tier.tour, stage.name, name, clock) for name in tier.tour.methods]
    taken, problem = (
        sum(part.seconds or 0 for part in parts),
        next((part.problem for part in parts if part.problem), None),
    )
    return Row(stage.name, f"{len(parts)} trainings", taken, parts[0].basis, parts[0].device_bytes, problem)


# stages of an entry of a tier's settings, by their notebook
ENTRIES = {"0-tour": _tour, "0-features": _features, "0-autoencoder": _reconstruction, "0-latents": _encoding}


def forecast(tier: Tier, clock: Clock) -> list[Row]:
    """One row a stage, in the plan's order, by the seconds of `clock`; what is not forecast takes minutes at most."""
    rows = []
    for stage in stages.plan(tier):
        experiment = tier.experiments.get(stage.experiment or "")
        if stage.notebook in ENTRIES:
            rows.append(ENTRIES[stage.notebook](tier, stage, clock))
        elif stage.method:
            rows.append(_training(tier, experiment, stage.name, stage.method, clock))
        elif stage.notebook == "3-sample":
            rows.append(_sampling(tier, experiment, stage.name, clock))
        elif stage.notebook in ("4-metrics-images", "4-metrics-text"):
            rows.append(_metrics(tier, experiment, stage.name, clock))
        else:
            rows.append(Row(stage.name, "minutes at most"))
    return rows
