"""Measuring: from arrays of samples to one row a number, each with its protocol and its provenance."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..flows.sampler_names import calls_a_step
from ..metrics.features import Extractor, extract
from ..metrics.frechet import moments
from ..metrics.pairs import manifold
from ..metrics.protocol import ImageProtocol
from ..settings.tiers import Compute, ExperimentSettings
from ..storage.files import write_atomically
from ..storage.progress import Progress
from ..training import features
from ..training.experiment import Experiment
from ..training.pool import run_all
from . import measures, provenance
from .csv_files import ANY, NUMBER, TEXT, WHOLE, DamagedFileError, read, require_once
from .measures import METRICS
from .metric import Cell, Comparison, Row, Teacher
from .sample import EXACT, labels, opened, read_index

COLUMNS = (
    "method", "label", "metric", "nfe", "train_seed", "sample_seed", "value", "samples", "protocol", "empty",
)  # fmt: skip
KEYS = ["method", "metric", "nfe", "train_seed", "sample_seed"]
KINDS = dict.fromkeys((*COLUMNS, *provenance.COLUMNS), TEXT) | {"value": NUMBER, "empty": ANY}
KINDS |= dict.fromkeys(("nfe", "train_seed", "sample_seed", "samples"), WHOLE)
CURE = "measure the experiment again"
HIGHER_IS_BETTER = frozenset(name for metric in METRICS.values() for name in metric.higher)


def _needed(settings: ExperimentSettings) -> set[str]:
    return {need for name in settings.metrics.measures for need in METRICS[name].needs}


def comparison(experiment: Experiment) -> Comparison:
    """What an experiment's samples are compared with; FileNotFoundError, naming the cure, without it."""
    settings, needed = experiment.settings, _needed(experiment.settings)
    if settings.metrics.of_images:
        preparation = features.FeaturePreparation.open(experiment.tier, settings.metrics.features)
        prompts = measures.prompts_of(experiment) if settings.sampling.prompts else None
        data = features.load(preparation)
        return Comparison(settings, experiment.compute.device, data=data, prompts=prompts)
    target = experiment.workspace.root / "data" / "checkerboard.npy"
    if "target" in needed and not target.is_file():
        raise FileNotFoundError(f"{target} is not there: run `python -m fewstep data` first")
    return Comparison(settings, experiment.compute.device, target=target)


def _prepared(against: Comparison) -> Comparison:
    """With what the metrics take of the data's features, and without the features where none takes more."""
    if against.data is None:
        return against
    needed, values = _needed(against.settings), against.data.values
    near = manifold(values, measures.NEIGHBOURS) if "neighbours" in needed else None
    data = against.data if "features of data" in needed else replace(against.data, values=np.empty(0))
    return replace(against, data=data, moments=moments(values), manifold=near)


def words(against: Comparison) -> dict[str, str | int | None]:
    """What stands for the words in braces in the protocols of an experiment's metrics."""
    sampling, metrics = against.settings.sampling, against.settings.metrics
    found = {"count": sampling.count, "bins": metrics.bins, "size": metrics.w2_samples}
    if teacher := metrics.reference:
        found["teacher"] = f"{teacher.method} at {teacher.steps} Euler steps"
    if against.data:
        subsets = measures.kid_subsets(sampling.count, len(against.data.values))
        some = f"{subsets} subsets of {measures.SUBSET_SIZE}"
        found["subsets"] = some if subsets else "unbiased, over all pairs of samples"
    if against.prompts:
        found |= measures.words(against.prompts, metrics.measures, sampling.count)
    return found


def protocols_by_name(against: Comparison) -> dict[str, str | ImageProtocol]:
    """The frozen evaluation protocol of every metric of an experiment, by its name in the tables."""
    sampling, said, found = against.settings.sampling, words(against), {}
    usual = {"format": "uint8", "weights": "average over training, at its end"}
    if data := against.data:
        usual |= {"extractor": data.extractor.name, "resize": data.extractor.resize}
        usual |= {"split": data.split, "reference": f"sha256 {data.checksum}"}
    for metric in (METRICS[measure] for measure in against.settings.metrics.measures):
        own = usual | {field: text.format(**said) for field, text in metric.protocol.items()}
        found |= {name: what.format(**said) for name, what in metric.names.items()}
        if against.settings.metrics.of_images:
            own |= {"samples": sampling.count, "seeds": tuple(sampling.seeds)}
            found |= {name: ImageProtocol(found[name], **own) for name in metric.names}
    return found


def require_whole(rows: pd.DataFrame, where: str) -> None:
    """Raise DamagedFileError unless every number of `rows` is finite and there once: means count each."""
    bad = rows[~np.isfinite(rows.value.astype(float))]
    if len(bad):
        cell = f"{bad.iloc[0].method}, {bad.iloc[0].metric}, nfe {bad.iloc[0].nfe}"
        raise DamagedFileError(f"{where} has a number that is not finite, {cell}: {CURE}")
    require_once(rows, KEYS, where, f"let `sampling` in params.yaml name it once, and {CURE}")


def check_calls(index: pd.DataFrame) -> None:
    """Raise ValueError when the calls that were counted are not those that the steps of a sampler take."""
    calls = index.steps * index.sampler.map(calls_a_step).astype(float)
    wrong = index[calls.notna() & (index.nfe != calls)]
    if len(wrong):
        row = wrong.iloc[0]
        took = f"{row.method} took {row.nfe} network calls for {row.steps} steps"
        raise ValueError(f"{took}: the samples and the table disagree")


def _extract(samples: Path, target: Path, extractor: Extractor, device: str) -> None:
    found = extract(np.load(samples, mmap_mode="r"), extractor, device=device)
    with target.open("wb") as file:
        np.save(file, found.values.astype(np.float32))


def _cells(
    settings: ExperimentSettings, index: pd.DataFrame, folder: Path, scratch: Path | None
) -> list[Cell]:
    """One cell a row of `index`; `scratch` is where the features of images lie."""
    teacher, seeds = settings.metrics.reference, settings.sampling.seeds
    rows = list(index.itertuples())
    drawn = {(r.method, r.steps, r.train_seed, r.sample_seed): folder / r.file for r in rows}
    # one step is one network call: an adaptive solver's steps are digits, and one of Heun's takes two
    single = {(r.method, r.train_seed, r.sample_seed): folder / r.file for r in rows if r.nfe == 1}

    def compared(path: Path) -> Path:
        return scratch / path.with_suffix(".features").name if scratch else path

    cells = []
    for r in rows:
        own, teachers = folder / r.file, []
        if teacher:
            other = seeds[(seeds.index(r.sample_seed) + 1) % len(seeds)]
            for seed in settings.training.seeds if r.method == EXACT else [r.train_seed]:
                same, apart = (drawn[teacher.method, teacher.steps, seed, s] for s in (r.sample_seed, other))
                teachers.append(Teacher(seed, same, compared(apart)))
        one_step = single.get((r.method, r.train_seed, r.sample_seed)) if r.nfe != 1 else None
        features = compared(own) if scratch else None
        cells.append(Cell(own, features, int(r.sample_seed), one_step, tuple(teachers)))
    return cells


def _measure(cell: Cell, against: Comparison, measures: list[str]) -> list[Row]:
    cell = replace(cell)  # a copy, whose arrays go when it is measured
    names = {name for measure in measures for name in METRICS[measure].names}
    functions = dict.fromkeys(METRICS[measure].function for measure in measures)
    return [row for function in functions for row in function(cell, against) if row["metric"] in names]


def evaluate(
    index: pd.DataFrame, folder: Path, against: Comparison, scratch: Path, compute: Compute
) -> pd.DataFrame:
    """One row a number, columns as COLUMNS, of what was drawn; features are kept in `scratch`.

    Before anything is measured, raises ValueError for counted calls that are not those of the steps, and for
    samples that are doubled or not as many as the settings say; then, for no more images than features.
    """
    check_calls(index)
    settings = against.settings
    require_once(index, KEYS[:1] + ["steps"] + KEYS[3:], "the index of the samples", "draw them again")
    for file in index.file:
        opened(folder / file, settings.sampling.count)
    # an adaptive solver's calls differ from seed to seed: a row of the table stands at their mean
    calls = index.groupby(["method", "steps"]).nfe.transform("mean").round().astype(int)
    index, texts, names = index.assign(nfe=calls), protocols_by_name(against), labels(settings)
    cells = _cells(settings, index, folder, scratch if settings.metrics.of_images else None)
    extracted = [cell for cell in cells if "features" in _needed(settings)]
    with Progress(len(extracted) + len(cells), "metrics") as bar:
        if extracted:
            files = [(c.samples, c.features, against.data.extractor, against.device) for c in extracted]
            run_all(_extract, files, compute.workers, bar.update)
        prepared, measures = _prepared(against), map(settings.metrics.of_row, index.method)
        jobs = [(cell, prepared, own) for cell, own in zip(cells, measures)]
        measured = run_all(_measure, jobs, compute.workers, lambda done: bar.update(len(extracted) + done))
    rows = []
    for source, found in zip(index.to_dict("records"), measured):
        own = {name: source[name] for name in ("method", "nfe", "train_seed", "sample_seed")}
        own |= {"label": names[source["method"]], "samples": source["count"], "empty": 0}
        rows += [own | row | {"protocol": str(texts[row["metric"]])} for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measure(experiment: Experiment, notebook: str) -> pd.DataFrame:
    """Measure an experiment's samples; writes metrics/<experiment>.csv with provenance, and returns it."""
    folder = experiment.workspace.read(f"samples/{experiment.name}")
    scratch = experiment.workspace.write(f"scratch-features/{experiment.name}/x").parent
    index = read_index(folder, experiment.settings)
    rows = evaluate(index, folder, comparison(experiment), scratch, experiment.compute)
    for path in scratch.glob("*.features"):
        path.unlink()
    rows = rows.assign(**provenance.of_experiment(experiment, notebook)._asdict())
    path = experiment.workspace.write(f"metrics/{experiment.name}.csv")
    write_atomically(path, rows.to_csv(index=False).encode())
    return rows


def load(experiment: Experiment) -> pd.DataFrame:
    """The measured rows of an experiment, as `measure` wrote them."""
    path = experiment.workspace.read(f"metrics/{experiment.name}.csv")
    rows = read(path, KINDS, CURE)
    require_whole(rows, str(path))
    return rows


def protocols(experiment: Experiment) -> pd.DataFrame:
    """The evaluation protocols, metrics down; what all of them share stands once, in the first row."""
    found = protocols_by_name(comparison(experiment)).items()
    rows = {name: {"protocol": own} if isinstance(own, str) else asdict(own) for name, own in found}
    table = pd.DataFrame(rows).T.map(lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else v)
    shared = [c for c in table.columns if table[c].nunique() == 1] if len(table) > 1 else []
    if shared:
        first = table[shared].iloc[[0]].set_axis(["all"])
        table = pd.concat([first.reindex(columns=table.columns), table.assign(**dict.fromkeys(shared))])
    return table.fillna("").rename(columns={"metric": "what is measured"}).rename_axis("metric")


def about(experiment: Experiment) -> str:
    """What the metrics of an experiment are, as Markdown: a line each."""
    metrics = [METRICS[measure] for measure in experiment.settings.metrics.measures]
    return "\n".join(f"- **{', '.join(metric.names)}**: {metric.about}" for metric in metrics)


def about_self_checks(experiment: Experiment) -> str:
    """What there is to read in the self-checks of an experiment, as Markdown."""
    if not experiment.settings.metrics.of_images:
        exact = f"The row *{EXACT}* holds samples of the exact map"
        return f"{exact}: what is left there is the metric's own error."
    text = (
        "FID of the data split in two is as good as any sampler can look at that number of samples; noise is "
        "as bad. Disjoint parts of the data, smaller and smaller, show the bias: their true distance is "
        "zero. No difference smaller than this should be read as one."
    )
    captions = " The images of the prompts are scored with their own captions and with another's."
    return text + (captions if experiment.settings.sampling.prompts else "")


def self_checks(experiment: Experiment) -> dict[str, pd.DataFrame]:
    """What the metrics say where the answer is known, by title; nothing for points."""
    found, metrics = {}, experiment.settings.metrics
    if metrics.of_images:
        data = comparison(experiment).data
        found["FID of the data against itself and noise"] = measures.fid_self_checks(experiment, data)
    if {"clip", "attributes"} & set(metrics.measures):
        found["The images of the prompts"] = measures.caption_self_checks(experiment)
    return found


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over all seeds: metric and network calls down, methods across, NaN where nothing was measured."""
    return rows.pivot_table("value", ["metric", "nfe"], "method", "mean", sort=False).sort_index()


def empty_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The most empty histogram cells of any seed, methods down, network calls across."""
    kl = rows[rows.metric == measures.KL].sort_values("nfe", kind="stable")
    wide = kl.pivot_table("empty", "method", "nfe", "max", sort=False)
    return wide.reindex(rows.method.unique()).dropna(how="all").astype("Int64")
