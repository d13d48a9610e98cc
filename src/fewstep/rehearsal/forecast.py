"""How long the stages of a tier will take here: what is measured of their parts, times their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .. import data
from ..evaluation import sample
from ..evaluation.measure_captions import CHECKED
from ..evaluation.measure_images import SUBSET_SIZE, kid_subsets
from ..flows import sampler_names
from ..pipeline.stages import Stage
from ..settings.tiers import ExperimentSettings, Tier
from ..training import autoencoder
from ..training.prepare import prepared
from ..training.weights import PHASES, methods_of
from . import disk
from .measured import Measured, TooLargeError

# the calls of an adaptive solver, which takes as many as it takes
ADAPTIVE_CALLS = 50
MINUTES, UNFIT = "minutes at most", "does not fit into the GPU's free memory"


@dataclass(frozen=True)
class Row:
    """One stage of the forecast.

    work          what it consists of, in words
    seconds       what it will take, or None where nothing of it is forecast
    basis         what was measured
    device_bytes  the peak on the GPU of what was measured, or None
    problem       why it cannot run at all, or None
    """

    stage: str
    work: str
    seconds: float | None = None
    basis: str = ""
    device_bytes: int | None = None
    problem: str | None = None


def _training(tier: Tier, stage: Stage, measured: Measured) -> Row:
    """The trainings of a phase, or of the tour: on a CPU side by side, on a GPU one after the other."""
    experiment = tier.experiments[stage.experiment] if stage.experiment else tier.tour
    phases = [phase for phase in PHASES if stage.name.startswith(phase)]
    names = methods_of(experiment, phases[0]) if phases else experiment.methods
    training, methods = experiment.training, [experiment.methods[name] for name in names]
    own = [method for method in methods if not method.weights]
    if not own:
        return Row(stage.name, "weights are taken from files", basis=", ".join(m.weights for m in methods))
    batch, seeds, compute = training.batch, len(training.seeds), tier.compute.of(training)
    # each of several processes has its share of the batch
    share = batch / compute.processes
    work = f"{seeds * sum(m.steps for m in own):,} steps of {batch:,}, {len(own)} x {seeds} trainings"
    timings, each, left_out = [], [], []
    for method in own:
        try:
            timing = measured.step(experiment, method)
        except torch.OutOfMemoryError:
            problem = f"a step of {method.label} at batch {batch} {UNFIT}"
            cure = "lower training.batch, or raise compute.processes"
            return Row(stage.name, work, problem=f"{problem}: {cure}")
        except TooLargeError as error:
            left_out.append(f"{method.label}: {error}")
            continue
        timings.append(timing)
        each.append(timing.seconds * share / timing.batch * method.steps)
    if not timings:
        return Row(stage.name, work, basis="; ".join(left_out))
    timed, basis = sorted({timing.batch for timing in timings}), f"measured at batch {round(share)}"
    if timed != [round(share)]:
        basis = f"in proportion from batch {', '.join(map(str, timed))}"
    workers = compute.workers if compute.device == "cpu" and compute.processes == 1 else 1
    peaks = [timing.device_bytes for timing in timings if timing.device_bytes is not None]
    # never less than the longest of them
    seconds = max(seeds * sum(each) / workers, *each)
    return Row(stage.name, work, seconds, "; ".join([basis, *left_out]), max(peaks, default=None))


def _sampling(tier: Tier, stage: Stage, measured: Measured) -> Row:
    """Network calls, and the decoding of what latents are drawn."""
    experiment = tier.experiments[stage.experiment]
    count, calls, seconds = experiment.sampling.count, 0, 0.0
    draws = [draw for draw in sample.plan(experiment) if draw.network != sample.EXACT]
    if not draws:
        return Row(stage.name, "nothing is drawn from a network")
    try:
        for draw in draws:
            own = (sampler_names.calls_a_step(draw.sampler) or 0) * draw.steps or ADAPTIVE_CALLS
            timing = measured.call(experiment, experiment.methods[draw.network])
            calls, seconds = calls + own, seconds + own * count * timing.seconds / timing.batch
    except torch.OutOfMemoryError:
        problem = f"a network call {UNFIT}, as many samples as are drawn together"
        cure = "free some, or take a larger GPU"
        return Row(stage.name, f"{count:,} samples", problem=f"{problem}: {cure}")
    except TooLargeError as error:
        return Row(stage.name, f"{count:,} samples", basis=str(error))
    decode, work = _decode(tier, experiment, measured), f"{calls:,} calls for each of {count:,} samples"
    work += f", decoded {len(draws):,} times" if decode else ""
    seconds = (seconds + len(draws) * count * decode) / tier.compute.workers
    return Row(stage.name, work, seconds, f"a call of {timing.batch}", timing.device_bytes)


def _decode(tier: Tier, experiment: ExperimentSettings, measured: Measured) -> float:
    """Seconds that the decoding of a sample takes, 0 where it is none of latents."""
    latents = tier.latents.get(experiment.training.latents)
    return measured.autoencoder(latents).decode if latents else 0.0


def _measuring(tier: Tier, stage: Stage, measured: Measured) -> Row:
    """Features and metrics of every array of samples, and the self-checks of the data."""
    experiment = tier.experiments[stage.experiment]
    metrics, count = experiment.metrics, experiment.sampling.count
    if not metrics.of_images:
        return Row(stage.name, MINUTES)
    latents, extractor = (
        tier.latents.get(experiment.training.latents),
        tier.features[metrics.features].extractor,
    )
    draws, measures = len(sample.plan(experiment)), set(metrics.measures)
    against = disk.measured_against(tier, metrics.features)
    shape = data.load(latents.data).shape if latents else tier.shape(experiment)
    part = measured.metrics(shape, extractor)
    frechet, pairs = against * part.moment + part.distance, (count + 2 * against) * count
    # of every array; and of the data, once
    each, once = count * part.image, against * part.moment
    for sets in ("fid" in measures, 2 * ("t_fid" in measures)):
        each += sets * count * part.moment + bool(sets) * part.distance
    if "kid" in measures:
        subsets = kid_subsets(count, against)
        all_pairs = count**2 + count * against + against**2
        each += (all_pairs if subsets is None else 3 * subsets * SUBSET_SIZE**2) * part.kid
    work = f"{draws} arrays of {count:,}"
    if measures & {"precision", "recall"}:
        each += pairs * part.pair
        once += against**2 * part.pair
        work += f"; precision and recall over {pairs:,} pairs each"
    parts = sum(against // 2**k > disk.DIMENSIONS[extractor] for k in (2, 3, 4))
    # noise is as many images as there are to measure against
    checks = against * (part.image + _decode(tier, experiment, measured)) + (4 + 3 * parts) * frechet
    if "clip" in measures:
        looked_at = sum(measured.clip(latents))
        each += count * looked_at
        checks += 2 * min(count, CHECKED) * looked_at
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
        return Row(stage.name, MINUTES)
    return Row(stage.name, ", ".join(work), seconds, ", ".join(dict.fromkeys(basis)))


# by how the names of stages begin; what is not here takes minutes at most
PARTS = {
    **dict.fromkeys(("tour", *PHASES), _training),
    "prepare": _preparing,
    "sample": _sampling,
    "measure": _measuring,
}


def forecast(stages: Sequence[Stage], tier: Tier, measured: Measured) -> list[Row]:
    """One row a stage, in their order, by what is `measured`."""
    parts = [next((own for name, own in PARTS.items() if s.name.startswith(name)), None) for s in stages]
    return [part(tier, s, measured) if part else Row(s.name, MINUTES) for s, part in zip(stages, parts)]
