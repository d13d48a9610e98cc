"""How long the stages of a tier will take here: what is measured of their parts, times their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .. import data
from ..evaluation import sample
from ..evaluation.measure_captions import CHECKED
from ..evaluation.measure_images import SUBSET_SIZE, kid_subsets
from ..flows import sampler_names
from ..pipeline.stages import Stage
from ..settings.latents import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..training import autoencoder
from ..training.prepare import prepared
from ..training.weights import PHASES, methods_of
from . import disk
from .measured import Measured, TooLargeError

# the calls of an adaptive solver, which takes as many as it takes
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


def _trainings(
    tier: Tier, experiment: ExperimentSettings, methods: Sequence[str], stage: str, measured: Measured
) -> Row:
    """The trainings of some methods: on a CPU side by side, on a GPU one after the other."""
    training, own = experiment.training, {name: experiment.methods[name] for name in methods}
    batch, seeds = training.batch, len(training.seeds)
    own = {name: method for name, method in own.items() if not method.weights}
    if not own:
        files = ", ".join(experiment.methods[name].weights for name in methods)
        return Row(stage, "weights are taken from files", basis=files)
    steps = seeds * sum(method.steps for method in own.values())
    work = f"{steps:,} steps of {batch:,}, {len(own)} x {seeds} trainings"
    # each of several processes has its share of the batch
    compute, found, left_out = tier.compute.of(training), [], []
    share = batch / compute.processes
    for method in own.values():
        try:
            timing = measured.step(experiment, method)
        except torch.OutOfMemoryError:
            problem = (
                f"a step of {method.label} at batch {batch} does not fit into the GPU's free memory: lower "
                "training.batch, or raise compute.processes"
            )
            return Row(stage, work, problem=problem)
        except TooLargeError as error:
            left_out.append(f"{method.label}: {error}")
            continue
        found.append((timing.seconds * share / timing.batch * method.steps, timing))
    if not found:
        return Row(stage, work, basis="; ".join(left_out))
    timed = sorted({timing.batch for _, timing in found})
    basis = f"measured at batch {round(share)}"
    if timed != [round(share)]:
        basis = f"in proportion from batch {', '.join(map(str, timed))}"
    workers = compute.workers if compute.device == "cpu" and compute.processes == 1 else 1
    each = [seconds for seconds, _ in found]
    peaks = [timing.device_bytes for _, timing in found if timing.device_bytes is not None]
    # never less than the longest of them
    seconds = max(seeds * sum(each) / workers, *each)
    return Row(stage, work, seconds, "; ".join([basis, *left_out]), max(peaks, default=None))


def _training_stage(tier: Tier, stage: Stage, measured: Measured) -> Row:
    experiment = tier.experiments[stage.experiment]
    phase = next(phase for phase in PHASES if stage.name.startswith(phase))
    return _trainings(tier, experiment, methods_of(experiment, phase), stage.name, measured)


def _tour(tier: Tier, stage: Stage, measured: Measured) -> Row:
    return _trainings(tier, tier.tour, list(tier.tour.methods), stage.name, measured)


def _latents(tier: Tier, experiment: ExperimentSettings) -> Latents | None:
    return tier.latents.get(experiment.training.latents)


def _sampling(tier: Tier, stage: Stage, measured: Measured) -> Row:
    """Network calls, and the decoding of what latents are drawn."""
    experiment = tier.experiments[stage.experiment]
    count, calls, drawn, seconds, timing = experiment.sampling.count, 0, 0, 0.0, None
    try:
        for draw in sample.plan(experiment):
            if draw.network == sample.EXACT:
                continue
            own = (sampler_names.calls_a_step(draw.sampler) or 0) * draw.steps or ADAPTIVE_CALLS
            timing = measured.call(experiment, experiment.methods[draw.network])
            calls, drawn = calls + own, drawn + 1
            seconds += own * count * timing.seconds / timing.batch
    except torch.OutOfMemoryError:
        problem = (
            "a network call does not fit into the GPU's free memory, as many samples as are drawn together: "
            "free some, or take a larger GPU"
        )
        return Row(stage.name, f"{count:,} samples", problem=problem)
    except TooLargeError as error:
        return Row(stage.name, f"{count:,} samples", basis=str(error))
    if timing is None:
        return Row(stage.name, "nothing is drawn from a network")
    latents = _latents(tier, experiment)
    decode = measured.autoencoder(latents).decode if latents else 0.0
    work = f"{calls:,} calls for each of {count:,} samples" + (f", decoded {drawn:,} times" if decode else "")
    seconds = (seconds + drawn * count * decode) / tier.compute.workers
    return Row(stage.name, work, seconds, f"a call of {timing.batch}", timing.device_bytes)


def _measuring(tier: Tier, stage: Stage, measured: Measured) -> Row:
    """Features and metrics of every array of samples, and the self-checks of the data."""
    experiment = tier.experiments[stage.experiment]
    if not experiment.metrics.of_images:
        return Row(stage.name, "minutes at most")
    latents, features = _latents(tier, experiment), tier.features[experiment.metrics.features]
    draws, count, measures = (
        len(sample.plan(experiment)),
        experiment.sampling.count,
        set(experiment.metrics.measures),
    )
    against = disk.measured_against(tier, experiment.metrics.features)
    shape = data.load(latents.data).shape if latents else tier.shape(experiment)
    part = measured.metrics(shape, features.extractor)
    frechet, pairs = against * part.moment + part.distance, (count + 2 * against) * count
    # of every array; and of the data, once
    each, once = count * part.image, against * part.moment
    if "fid" in measures:
        each += count * part.moment + part.distance
    if "t_fid" in measures:
        each += 2 * count * part.moment + part.distance
    if "kid" in measures:
        subsets = kid_subsets(count, against)
        all_pairs = count**2 + count * against + against**2
        each += (all_pairs if subsets is None else 3 * subsets * SUBSET_SIZE**2) * part.kid
    work = f"{draws} arrays of {count:,}"
    if measures & {"precision", "recall"}:
        each += pairs * part.pair
        once += against**2 * part.pair
        work += f"; precision and recall over {pairs:,} pairs each"
    parts = sum(against // 2**k > disk.DIMENSIONS[features.extractor] for k in (2, 3, 4))
    # noise is as many images as there are to measure against
    decode = measured.autoencoder(latents).decode if latents else 0.0
    checks = against * (part.image + decode) + (4 + 3 * parts) * frechet
    if "clip" in measures:
        clip = measured.clip(latents)
        each += count * (clip.image + clip.caption)
        checks += 2 * min(count, CHECKED) * (clip.image + clip.caption)
    seconds = draws * each / tier.compute.workers + once + checks
    return Row(stage.name, work, seconds, f"parts measured; {part.extractor}")


def _preparing(tier: Tier, stage: Stage, measured: Measured) -> Row:
    """The features to measure in, some images encoded and decoded, all images and captions encoded."""
    entries = prepared(tier, stage.data)
    work, basis, seconds = [], [], 0.0
    for name in entries["features"]:
        features, count = tier.features[name], disk.measured_against(tier, name)
        part = measured.metrics(data.load(features.data).shape, features.extractor)
        work.append(f"features of {count:,} images")
        basis.append(part.extractor)
        seconds += count * part.image
    for name in entries["latents"]:
        latents, count = tier.latents[name], disk.encoded(tier.latents[name])
        coder, caption = measured.autoencoder(latents), measured.clip(latents).caption
        if not coder.encode:
            continue
        flipped, held_out = data.load(latents.data).flip, data.offers(latents.data, "held_out")
        kept = (1 + held_out) * (latents.measured or autoencoder.MEASURED)
        also = (" and their mirror images" if flipped else "") + (" and their captions" if caption else "")
        work.append(f"{count:,} images{also} encoded")
        basis.append("untrained networks of the published sizes")
        seconds += kept * (coder.encode + coder.decode)
        seconds += count * ((1 + flipped) * coder.encode + caption)
    if not work:
        return Row(stage.name, "minutes at most")
    return Row(stage.name, ", ".join(work), seconds, ", ".join(dict.fromkeys(basis)))


# by how the names of stages begin; what is not here takes minutes at most
PARTS = {
    "tour": _tour,
    "prepare": _preparing,
    "teacher": _training_stage,
    "students": _training_stage,
    "sample": _sampling,
    "measure": _measuring,
}


def forecast(stages: Sequence[Stage], tier: Tier, measured: Measured) -> list[Row]:
    """One row a stage, in their order, by what is `measured`; what is not forecast takes minutes at most."""
    rows = []
    for stage in stages:
        part = next((own for name, own in PARTS.items() if stage.name.startswith(name)), None)
        rows.append(part(tier, stage, measured) if part else Row(stage.name, "minutes at most"))
    return rows
