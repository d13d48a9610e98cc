"""How far the choices by which published FIDs differ move FID: the same students, measured by each in turn.

Two methods, in the fewest steps that both are drawn in. A change is paired: of the same training and the same
sampling seed, less the FID of the experiment's own protocol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch.nn import functional as F

from ..metrics.features import Extractor, extract
from ..metrics.frechet import Moments, moments
from ..metrics.frechet_bias import extrapolated, of_half_the_samples, of_samples
from ..metrics.png import as_png
from ..metrics.protocol import ImageProtocol
from ..settings.tiers import ExperimentSettings
from ..storage.progress import Progress
from ..training import features
from ..training.experiment import Experiment
from ..training.features import FeaturePreparation
from ..training.pool import run_all
from ..training.precision import one_thread
from ..training.preparation import DRAW_SEED
from ..training.weights import without_ema_file
from . import measure, provenance, tables
from .measures import BATCH, FID, JPEG
from .sample import Draw, draw_one, labels, read_index

NAME = "protocol-sensitivity"
CHANGE = ", change"
HALF_REFERENCE, OTHER_REFERENCE = "FID, half the reference", "FID, another draw of the reference"
PNG, RESIZED, WITHOUT_EMA = "FID as PNG", "FID, resized as by pytorch-fid", "FID without EMA"
HALF_SAMPLES, POOLED = "FID, half the samples", "FID, samples of all seeds together"
EXTRAPOLATED = "FID, extrapolated in the samples"
BEST_SEED, BEST_SETTING = "FID, best sampling seed", "FID, best setting"
# the sampling seed of a number that is one for all of them
ALL = -1
# what a random half of the reference, and another draw of it, are drawn from
HALF_SEED, OTHER_SEED = 8_000_009, DRAW_SEED + 1
SIDE = 299
# by name, in the order in which they are shown: `about`, and the fields of the protocol that it changes
CHOICES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Against:
    """What samples are measured in; the moments of the reference, of a half, and of another draw of it."""

    extractor: Extractor
    device: str
    own: Moments
    half: Moments
    other: Moments


def bilinear(image: np.ndarray) -> np.ndarray:
    """pytorch-fid's resizing of one uint8 image (height, width, channels), to float32."""
    x = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    found = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return found[0].numpy().transpose(1, 2, 0)


def random_half(values: np.ndarray) -> np.ndarray:
    """Half of the rows of features (count, dim), the same ones at every call."""
    return values[np.random.default_rng(HALF_SEED).permutation(len(values))[: len(values) // 2]]


def _features(images: np.ndarray, extractor: Extractor, device: str) -> np.ndarray:
    """The features of uint8 images as they are kept, in single precision; (count, dim), float64."""
    return extract(images, extractor, device=device).values.astype(np.float32).astype(np.float64)


def against(preparation: FeaturePreparation) -> Against:
    """The references; RESIZED has none of its own."""
    data, source = features.load(preparation), preparation.source
    generator, left, parts = torch.Generator().manual_seed(OTHER_SEED), len(data.values), []
    with one_thread():
        while left > 0:  # some at a time: all of them as floats may exceed the memory
            images = source.to_uint8(source.sample(min(BATCH, left), generator)).numpy()
            parts.append(_features(images, data.extractor, preparation.device))
            left -= len(images)
    every = (data.values, random_half(data.values), np.concatenate(parts))
    return Against(data.extractor, preparation.device, *(moments(values, True) for values in every))


def _measure(
    settings: ExperimentSettings,
    draws: Sequence[Draw],
    folder: Path,
    weights: Path | None,
    data_folder: Path | None,
    references: Against,
) -> list[dict[str, Any]]:
    """The FIDs of one training of a method, its samples in `folder`; `weights` are those without EMA."""
    extractor, device, own = references.extractor, references.device, references.own
    rows, every = [], []
    for draw in draws:
        images = np.load(folder / draw.name)
        every.append(values := _features(images, extractor, device))
        whole, half = of_samples(values, own), of_half_the_samples(values, own)
        found = {HALF_SAMPLES: half, EXTRAPOLATED: extrapolated(whole, half)}
        found[HALF_REFERENCE] = of_samples(values, references.half)
        found[OTHER_REFERENCE] = of_samples(values, references.other)
        stored = as_png(images)
        same = np.array_equal(stored, images)  # as it always is, and then so are the features
        found[PNG] = whole if same else of_samples(_features(stored, extractor, device), own)
        if extractor.resizer is not None:
            resized = replace(extractor, resizer=bilinear)
            found[RESIZED] = of_samples(_features(images, resized, device), own)
        if weights is not None:
            with TemporaryDirectory() as scratch:
                draw_one(settings, draw, weights, Path(scratch), device, data_folder)
                last = np.load(Path(scratch) / draw.name)
            found[WITHOUT_EMA] = of_samples(_features(last, extractor, device), own)
        seeds = {"method": draw.method, "train_seed": draw.train_seed, "sample_seed": draw.sample_seed}
        rows += [seeds | {"metric": name, "value": value} for name, value in found.items()]
    pooled = of_samples(np.concatenate(every), own)
    return [*rows, seeds | {"sample_seed": ALL, "metric": POOLED, "value": pooled}]


def best_of_seeds(own: pd.DataFrame) -> pd.DataFrame:
    """The row of the lowest value of each method's trainings, as one for all sampling seeds."""
    best = own.loc[own.groupby(["method", "train_seed"]).value.idxmin()]
    return best.assign(metric=BEST_SEED, sample_seed=ALL)


def best_of_settings(
    rows: pd.DataFrame, settings: ExperimentSettings, methods: Sequence[str]
) -> pd.DataFrame:
    """The rows of FID of each method's setting with the lowest mean, under the method's own name.

    The settings of a method labelled "A" are the methods labelled "A, ..." beside it.
    """
    names, parts = labels(settings), []
    for method in methods:
        every = [m for m in settings.methods if m == method or names[m].startswith(f"{names[method]}, ")]
        best = rows[rows.method.isin(every)].groupby("method").value.mean().idxmin()
        parts.append(rows[rows.method == best].assign(method=method, metric=BEST_SETTING))
    return pd.concat(parts)


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Every row of another metric than FID less the FID of its method, training and sampling seed.

    One for all sampling seeds is less their mean.
    """
    training, seed = ["method", "train_seed"], ["method", "train_seed", "sample_seed"]
    own, others = rows[rows.metric == FID], rows[rows.metric != FID]
    base = own.set_index(seed).value.to_dict()
    base |= {(*key, ALL): mean for key, mean in own.groupby(training).value.mean().items()}
    less = [base[key] for key in others[seed].itertuples(index=False, name=None)]
    return others.assign(value=others.value - less, metric=others.metric + CHANGE)


def protocols(
    own: Mapping[str, ImageProtocol], settings: ExperimentSettings, dim: int
) -> dict[str, ImageProtocol]:
    """The protocol of every metric of the table, in `dim` features, from those of the experiment."""
    usual, sampling = own[FID], settings.sampling
    size = {HALF_SAMPLES: sampling.count // 2, POOLED: sampling.count * len(sampling.seeds)}
    words = {"split": usual.split, "reference": usual.reference, "other": OTHER_SEED}
    found = {FID: usual}
    for name, choice in CHOICES.items():
        said = {field: text.format(**words) for field, text in choice.items() if field != "about"}
        said["samples"] = size.get(name, usual.samples)
        if name in (HALF_SAMPLES, EXTRAPOLATED) and size[HALF_SAMPLES] <= dim:
            said["metric"] += f" (no more than the {dim} features: their covariance is singular)"
        found[name] = own[JPEG] if name == JPEG and JPEG in own else replace(usual, **said)
        paired = f"{found[name].metric}, less the FID of the own protocol, paired by seed"
        found[name + CHANGE] = replace(found[name], metric=paired)
    return found


def table(experiment: Experiment, notebook: str) -> pd.DataFrame:
    """The table `protocol-sensitivity` (tables.COLUMNS): FID, and by each choice FID and its change.

    The deviations of a change are those of the paired differences. Raises ValueError where
    `metrics.sensitivity` names no methods.
    """
    settings, read = experiment.settings, experiment.workspace.read
    pair = settings.metrics.sensitivity
    if pair is None:
        cure = "name two methods there in params.yaml"
        raise ValueError(f"{experiment.name} has no `metrics.sensitivity` to measure: {cure}")
    steps = min(set.intersection(*(set(settings.sampling.steps[name]) for name in pair)))
    folder = read(f"samples/{experiment.name}")
    index = read_index(folder, settings)
    index = index[index.method.isin(settings.methods) & (index.steps == steps)]
    drawn = index.loc[index.method.isin(pair), [field.name for field in fields(Draw)]]
    plan = [Draw(*row) for row in drawn.itertuples(index=False, name=None)]
    references = against(FeaturePreparation.open(experiment.tier, settings.metrics.features))
    jobs = []
    for method, seed in product(pair, settings.training.seeds):
        draws = [draw for draw in plan if (draw.method, draw.train_seed) == (method, seed)]
        given = settings.method(method).weights is not None
        weights = None if given else read(without_ema_file(experiment, method, seed))
        jobs.append((settings, draws, folder, weights, experiment.data_folder, references))
    with Progress(len(jobs), "FID by other protocols") as bar:
        measured = sum(run_all(_measure, jobs, experiment.compute.workers, bar.update), [])
    calls = dict(zip(index.method, index.nfe))
    known = measure.load(experiment)
    known = known[known.metric.isin([FID, JPEG]) & (known.nfe == known.method.map(calls))]
    keys = ["method", "metric", "train_seed", "sample_seed", "value"]
    fids, own = known[known.metric == FID][keys], known[known.method.isin(pair)][keys]
    chosen = best_of_seeds(own[own.metric == FID]), best_of_settings(fids, settings, pair)
    rows = pd.concat([own, pd.DataFrame(measured)[keys], *chosen], ignore_index=True)
    rows = pd.concat([rows, changes(rows)], ignore_index=True)
    usual = measure.protocols_by_name(measure.comparison(experiment))
    said = rows.metric.map(protocols(usual, settings, len(references.own.mean)))
    rows = rows.assign(nfe=rows.method.map(calls), protocol=said.map(str))
    rows = rows.assign(samples=said.map(lambda protocol: protocol.samples))
    rows = rows.assign(**provenance.of_experiment(experiment, notebook)._asdict())
    found = tables.of_rows(experiment, rows, NAME)
    together = found.metric.str.removesuffix(CHANGE).isin([POOLED, BEST_SEED])
    trainings, samplings = len(settings.training.seeds), len(settings.sampling.seeds)
    found.loc[together, "seeds"] = f"{trainings} training x {samplings} sampling together"
    return found
