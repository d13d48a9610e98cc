"""Stage 4 for images: from arrays of samples to one tidy row a number, each with its frozen protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..metrics.features import Extractor, extract
from ..metrics.frechet import Moments, frechet, moments
from ..metrics.kid import kid
from ..metrics.precision_recall import Manifold, manifold, precision_recall
from ..metrics.protocol import ImageProtocol
from ..metrics.self_checks import self_checks as checks
from ..settings.tiers import Compute, ExperimentSettings
from ..storage.files import write_atomically
from ..storage.progress import Progress
from ..training.experiment import Experiment
from ..training.features import FeaturePreparation, Reference, load
from ..training.pool import one_thread, run_all
from . import measure_steps, measure_texts
from .measure import check_calls
from .measure_steps import AGAINST, Pair
from .measure_texts import PromptReference
from .provenance import gather
from .sample import labels

# The metric's name in the tables, by its name in params.yaml
NAMES = {
    "fid": "FID",
    "t_fid": "T-FID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "fid_jpeg": measure_steps.JPEG,
}
# the measures that compare images of one noise have several metrics each, by their own names
NAMES |= {name: name for measure in AGAINST for name in measure_steps.names(measure).values()}
NAMES |= {name: name for own in measure_texts.MEASURES.values() for name in own}
NEIGHBOURS = 3
# KID takes all pairs of sets up to this size, which is the mean of the usual subsets without their scatter; larger sets
# are measured in clean-fid's hundred subsets of a thousand, as their pairs are too many
ALL_PAIRS, SUBSETS, SUBSET_SIZE = 10_000, 100, 1000
NOISE_SEED = 3_000_017
# images of noise that are made together: a whole number of what goes through an extractor together, so that no bit depends on it
TOGETHER = 256


@dataclass(frozen=True)
class Cell:
    """What one (method, steps, training seed, sampling seed) is measured on.

    samples, teacher  the features of its images, and of the teacher's from another noise
    images            its images, and those from the same noise that they are compared with
    measures          which of the experiment's measures are taken of it
    """

    row: int
    samples: Path
    teacher: Path | None
    images: Pair
    measures: list[str]


@dataclass(frozen=True)
class Against:
    """The data's features as the measures want them, computed once for all cells; None what no measure of an experiment asks for."""

    values: np.ndarray | None
    moments: Moments
    manifold: Manifold | None

    @classmethod
    def of(cls, reference: Reference, measures: list[str]) -> Against:
        values = reference.values
        of_data = manifold(values, NEIGHBOURS) if {"precision", "recall"} & set(measures) else None
        return cls(values if "kid" in measures else None, moments(values), of_data)


def kid_subsets(samples: int, against: int) -> int | None:
    """How many subsets KID is averaged over; None for all pairs."""
    return None if max(samples, against) <= ALL_PAIRS else SUBSETS


def protocols(
    settings: ExperimentSettings, reference: Reference, prompts: PromptReference | None = None
) -> dict[str, ImageProtocol]:
    """The frozen evaluation protocol of every metric of an experiment, by its key in NAMES; `prompts` is what images with prompts are held against."""
    subsets = kid_subsets(settings.sampling.count, len(reference.values))
    said = {
        "fid": "FID", "t_fid": "FID against the teacher's samples", "kid": "KID, unbiased, over all pairs of samples" if subsets is None else f"KID, {subsets} subsets of {SUBSET_SIZE}",
        "precision": f"improved precision, {NEIGHBOURS} neighbours", "recall": f"improved recall, {NEIGHBOURS} neighbours", "fid_jpeg": "FID",
    }  # fmt: skip
    found, texts = {}, measure_texts.protocols(prompts, settings.sampling.count) if prompts else {}
    for measure in settings.metrics.measures:
        for key in measure_texts.MEASURES.get(measure, ()):
            what, extractor, against = texts[key]
            found[key] = ImageProtocol(
                what,
                extractor,
                against,
                settings.sampling.count,
                "uint8",
                "none",
                "none",
                "average over training, at its end",
                tuple(settings.sampling.seeds),
            )
        if measure in measure_texts.MEASURES:
            continue
        split, checksum, stored = reference.split, f"sha256 {reference.checksum}", "uint8"
        if measure == "t_fid":
            teacher = settings.metrics.reference
            split, checksum = (
                f"{settings.sampling.count} samples of {teacher.method} at {teacher.steps} Euler steps",
                "same training seed and other noise",
            )
        if measure == "fid_jpeg":
            stored = measure_steps.jpeg_format()
        metrics = {measure: said.get(measure, "")}
        if measure in AGAINST:
            how, split = measure_steps.said(measure, settings.metrics)
            checksum, metrics = (
                "none",
                {name: f"{distance}, {how}" for distance, name in measure_steps.names(measure).items()},
            )
        for key, what in metrics.items():
            found[key] = ImageProtocol(
                what, reference.extractor.name, split, settings.sampling.count, stored, reference.extractor.resize, checksum,
                "average over training, at its end", tuple(settings.sampling.seeds),
            )  # fmt: skip
    return found


def _extract(samples: Path, target: Path, extractor: Extractor, device: str) -> None:
    found = extract(np.load(samples, mmap_mode="r"), extractor, device=device)
    with target.open("wb") as file:
        np.save(file, found.values.astype(np.float32))


def _measure(
    cell: Cell,
    against: Against,
    seed: int,
    extractor: Extractor,
    device: str,
    prompts: PromptReference | None = None,
) -> dict[str, float]:
    own = np.load(cell.samples).astype(np.float64)
    found: dict[str, float] = {}
    for measure in cell.measures:
        if measure == "fid":
            found[measure] = frechet(moments(own), against.moments)
        elif measure == "t_fid":
            if cell.teacher is not None:
                found[measure] = frechet(moments(own), moments(np.load(cell.teacher).astype(np.float64)))
        elif measure == "kid":
            found[measure] = kid(
                own, against.values, kid_subsets(len(own), len(against.values)), SUBSET_SIZE, seed
            )
        elif measure in ("precision", "recall") and measure not in found:
            both = precision_recall(against.manifold, own)
            found |= {"precision": both.precision, "recall": both.recall}
    named = {NAMES[measure]: found[measure] for measure in cell.measures if measure in found}
    further = [measure for measure in cell.measures if measure in (*AGAINST, "fid_jpeg")]
    named |= (
        measure_steps.measure(cell.images, further, extractor, against.moments, device) if further else {}
    )
    texts = [measure for measure in cell.measures if measure in measure_texts.MEASURES]
    return named | (measure_texts.measure(np.load(cell.images.own), texts, prompts, device) if texts else {})


def _cells(settings: ExperimentSettings, index: pd.DataFrame, folder: Path, files: list[Path]) -> list[Cell]:
    teacher, seeds = settings.metrics.reference, settings.sampling.seeds
    place = {
        (r.method, r.steps, r.train_seed, r.sample_seed): file for r, file in zip(index.itertuples(), files)
    }
    drawn = {(r.method, r.steps, r.train_seed, r.sample_seed): folder / r.file for r in index.itertuples()}
    # one step is one network call: the steps of an adaptive solver are digits of its tolerance, and Heun's take two
    single = {
        (r.method, r.train_seed, r.sample_seed): folder / r.file for r in index.itertuples() if r.nfe == 1
    }
    cells = []
    for k, r in enumerate(index.itertuples()):
        other = seeds[(seeds.index(r.sample_seed) + 1) % len(seeds)]
        taught = place[teacher.method, teacher.steps, r.train_seed, other] if teacher else None
        one_step = single.get((r.method, r.train_seed, r.sample_seed)) if r.nfe != 1 else None
        same = drawn[teacher.method, teacher.steps, r.train_seed, r.sample_seed] if teacher else None
        cells.append(
            Cell(
                k,
                files[k],
                taught,
                Pair(folder / r.file, one_step, same if same != folder / r.file else None),
                settings.metrics.of_row(r.method),
            )
        )
    return cells


def evaluate(
    settings: ExperimentSettings,
    index: pd.DataFrame,
    folder: Path,
    reference: Reference,
    scratch: Path,
    compute: Compute,
    prompts: PromptReference | None = None,
) -> pd.DataFrame:
    """One row a number: method, label, metric, nfe, train_seed, sample_seed, value, samples, protocol.

    `index` and `folder` come from `sample_all`; features are kept in `scratch` while they are needed. Raises
    ValueError when a count of network calls differs from the steps that were asked for, and for samples of which
    there are no more than features.
    """
    check_calls(index)
    # an adaptive solver's calls differ from seed to seed: a row of the table stands at their mean
    index = index.assign(nfe=index.groupby(["method", "steps"]).nfe.transform("mean").round().astype(int))
    said, names = (
        {NAMES[key]: protocol for key, protocol in protocols(settings, reference, prompts).items()},
        labels(settings),
    )
    files = [scratch / Path(r.file).with_suffix(".features").name for r in index.itertuples()]
    with Progress(2 * len(index), "features and metrics") as bar:
        jobs = [
            (folder / r.file, file, reference.extractor, compute.device)
            for r, file in zip(index.itertuples(), files)
        ]
        run_all(_extract, jobs, compute.workers, bar.update)
        cells = _cells(settings, index, folder, files)
        against = Against.of(reference, settings.metrics.measures)
        todo = [
            (cell, against, int(index.sample_seed[cell.row]), reference.extractor, compute.device, prompts)
            for cell in cells
        ]
        measured = run_all(_measure, todo, compute.workers, lambda done: bar.update(len(index) + done))
    rows = []
    for cell, values in zip(cells, measured):
        source = index.iloc[cell.row]
        for name, value in values.items():
            rows.append(
                {
                    "method": source.method, "label": names[source.method], "metric": name, "nfe": int(source.nfe),
                    "train_seed": int(source.train_seed), "sample_seed": int(source.sample_seed), "value": value,
                    "samples": int(source["count"]), "protocol": str(said[name]),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def measure(experiment: Experiment, notebook: str) -> pd.DataFrame:
    """Measure all samples of an experiment; writes metrics/<experiment>.csv, every row with its provenance, and returns it."""
    folder = experiment.workspace.read(f"samples/{experiment.name}")
    reference = load(feature_preparation(experiment))
    scratch = experiment.workspace.write(f"scratch-features/{experiment.name}/x").parent
    rows = evaluate(
        experiment.settings,
        pd.read_csv(folder / "index.csv"),
        folder,
        reference,
        scratch,
        experiment.compute,
        prompt_reference(experiment),
    )
    for path in scratch.glob("*.features"):
        path.unlink()
    traced = gather(
        experiment.workspace.root, notebook, experiment.settings.model_dump(), experiment.compute.device
    )
    rows = rows.assign(**traced.columns())
    write_atomically(
        experiment.workspace.write(f"metrics/{experiment.name}.csv"), rows.to_csv(index=False).encode()
    )
    return rows


def prompt_reference(experiment: Experiment) -> PromptReference | None:
    """What the images of an experiment are held against besides images, if they were prompts prompts."""
    return (
        PromptReference.of_experiment(experiment, feature_preparation(experiment))
        if experiment.settings.sampling.prompts
        else None
    )


def self_checks(experiment: Experiment, reference: Reference) -> pd.DataFrame:
    """FID of the data against itself in two halves, against noise, and of smaller and smaller parts: medians, by check and samples."""
    source = experiment.source

    def noise(count: int) -> np.ndarray:
        drawn = (
            torch.randn(count, *source.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
            * source.scale
        )
        # some at a time, and latents decoded where the work runs: all images, as floats, may be more than there is memory
        parts = (
            source.to_uint8(some.to(experiment.compute.device)).cpu().numpy()
            for some in drawn.split(TOGETHER)
        )
        return np.concatenate(
            [extract(part, reference.extractor, device=experiment.compute.device).values for part in parts]
        )

    half, dim = len(reference.values) // 2, reference.values.shape[1]
    sizes = [half // 2**k for k in (3, 2, 1) if half // 2**k > dim]
    with one_thread():
        found = checks(reference.values, noise, sizes)
    return found.groupby(["check", "samples"], sort=False).fid.median().round(3).to_frame()


def feature_preparation(experiment: Experiment) -> FeaturePreparation:
    """What an experiment's images are measured in."""
    return FeaturePreparation.open(experiment.tier, experiment.settings.metrics.features)
