"""How long the stages of a tier will take here: what is measured of their parts, times their number."""

from collections.abc import Sequence
from dataclasses import dataclass

from .. import data
from ..evaluation import sample
from ..evaluation.measure_captions import CHECKED
from ..flows import sampler_names
from ..pipeline.stages import Stage
from ..settings.tiers import Tier
from ..training import autoencoder
from ..training.prepare import prepared
from ..training.weights import PHASES, methods_of
from . import disk
from .timing import NOTHING, Timing, Timings, UnfitError, extractor_name

# the calls of an adaptive solver, which takes as many as it takes
ADAPTIVE_CALLS = 50
MINUTES = "minutes at most"


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


def _peak(found: Sequence[Timing]) -> int | None:
    return max((own.device_bytes for own in found if own.device_bytes is not None), default=None)


def _training(tier: Tier, stage: Stage, timings: Timings) -> Row:
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
    found = [timings.step(experiment, method) for method in own]
    each = [share * timing.each * method.steps for timing, method in zip(found, own)]
    timed, basis = sorted({timing.batch for timing in found}), f"measured at batch {round(share)}"
    if timed != [round(share)]:
        basis = f"in proportion from batch {', '.join(map(str, timed))}"
    workers = compute.workers if compute.device == "cpu" and compute.processes == 1 else 1
    # never less than the longest of them
    seconds = max(seeds * sum(each) / workers, *each)
    return Row(stage.name, work, seconds, basis, _peak(found))


def _sampling(tier: Tier, stage: Stage, timings: Timings) -> Row:
    """Network calls, and the decoding of what latents are drawn."""
    experiment = tier.experiments[stage.experiment]
    count, calls, seconds = experiment.sampling.count, 0, 0.0
    draws = [draw for draw in sample.plan(experiment) if draw.network != sample.EXACT]
    if not draws:
        return Row(stage.name, "nothing is drawn from a network")
    latents, found = tier.latents.get(experiment.training.latents), []
    for draw in draws:
        own = (sampler_names.calls_a_step(draw.sampler) or 0) * draw.steps or ADAPTIVE_CALLS
        found.append(timings.call(experiment, experiment.methods[draw.network]))
        calls, seconds = calls + own, seconds + own * count * found[-1].each
    work, basis = f"{calls:,} calls for each of {count:,} samples", f"a call of {found[-1].batch}"
    decode = timings.autoencoder("decode", latents) if latents else NOTHING
    work += f", decoded {len(draws):,} times" if decode.seconds else ""
    seconds = (seconds + len(draws) * count * decode.each) / tier.compute.workers
    return Row(stage.name, work, seconds, basis, _peak([*found, decode]))


def _measuring(tier: Tier, stage: Stage, timings: Timings) -> Row:
    """Features and metrics of every array of samples, and the self-checks of the data."""
    experiment = tier.experiments[stage.experiment]
    metrics, count = experiment.metrics, experiment.sampling.count
    if not metrics.of_images:
        return Row(stage.name, MINUTES)
    latents = tier.latents.get(experiment.training.latents)
    draws, measures = len(sample.plan(experiment)), set(metrics.measures)
    extractor = tier.features[metrics.features].extractor
    against = disk.measured_against(tier, metrics.features)
    shape, dimension = data.load(latents.data).shape if latents else tier.shape(experiment), disk.DIMENSIONS
    image, distance = timings.features(shape, extractor), timings.distance(dimension[extractor])
    decode = timings.autoencoder("decode", latents) if latents else NOTHING
    # of every array; and of the data, once
    distances = ("fid" in measures) + 2 * ("t_fid" in measures)
    each, once = count * image.each + distances * distance.each, 0.0
    work = f"{draws} arrays of {count:,}"
    if measures & {"precision", "recall"}:
        pairs, pair = (count + 2 * against) * count, timings.pairs(dimension[extractor])
        each += pairs * pair.each
        once += against**2 * pair.each
        work += f"; precision and recall over {pairs:,} pairs each"
    parts = sum(against // 2**k > dimension[extractor] for k in (2, 3, 4))
    # noise is as many images as there are to measure against
    once += against * (image.each + decode.each) + (4 + 3 * parts) * distance.each
    if "clip" in measures:
        looked_at = timings.clip("text", latents).each + timings.clip("image_features", latents).each
        each += count * looked_at
        once += 2 * min(count, CHECKED) * looked_at
    seconds = draws * each / tier.compute.workers + once
    return Row(
        stage.name, work, seconds, f"parts measured; {extractor_name(extractor)}", _peak([image, decode])
    )


def _preparing(tier: Tier, stage: Stage, timings: Timings) -> Row:
    """The features to measure in, some images encoded and decoded, all images and captions encoded."""
    entries, work, basis, found, seconds = prepared(tier, stage.data), [], [], [], 0.0
    for name in entries["features"]:
        features, count = tier.features[name], disk.measured_against(tier, name)
        found.append(timings.features(data.load(features.data).shape, features.extractor))
        work.append(f"features of {count:,} images")
        basis.append(extractor_name(features.extractor))
        seconds += count * found[-1].each
    for latents in (tier.latents[name] for name in entries["latents"]):
        encode, decode = (timings.autoencoder(way, latents) for way in ("encode", "decode"))
        if not encode.seconds:
            continue
        caption, flipped = timings.clip("text", latents), data.load(latents.data).flip
        also = " and their mirror images" if flipped else ""
        also += " and their captions" if caption.seconds else ""
        count, held_out = disk.encoded(latents), data.offers(latents.data, "held_out")
        kept = (1 + held_out) * (latents.measured or autoencoder.MEASURED)
        work.append(f"{count:,} images{also} encoded")
        basis.append("untrained networks of the published sizes")
        seconds += kept * (encode.each + decode.each)
        seconds += count * ((1 + flipped) * encode.each + caption.each)
        found += [encode, decode, caption]
    if not work:
        return Row(stage.name, MINUTES)
    return Row(stage.name, ", ".join(work), seconds, ", ".join(dict.fromkeys(basis)), _peak(found))


# by how the names of stages begin; what is not here takes minutes at most
PARTS = {
    **dict.fromkeys(("tour", *PHASES), _training),
    "prepare": _preparing,
    "sample": _sampling,
    "measure": _measuring,
}


def forecast(stages: Sequence[Stage], tier: Tier, timings: Timings) -> list[Row]:
    """One row a stage, in their order, by what is measured."""
    rows = []
    for stage in stages:
        part = next((own for name, own in PARTS.items() if stage.name.startswith(name)), None)
        try:
            rows.append(part(tier, stage, timings) if part else Row(stage.name, MINUTES))
        except UnfitError as error:
            rows.append(Row(stage.name, "not measured", problem=str(error)))
    return rows
