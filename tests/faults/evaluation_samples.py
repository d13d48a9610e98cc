"""Faults in evaluation/: what is drawn, what is measured of it, what it costs, and what findings say."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "evaluation/sample.py",
        "evidence_protocols",
        ("noise of another seed", "manual_seed(NOISE + sample_seed)", "manual_seed(NOISE)"),
        ("noise not scaled", "generator=generator) * source.scale", "generator=generator)"),
        ("further noise is the first", "FURTHER_NOISE + sample_seed", "NOISE + sample_seed"),
        ("the exact map by Euler alone", '("jumps" if n == 1 else "euler")', '"euler"'),
        ("exact drawn for every training", "[-1] if method == EXACT else seeds", "seeds"),
        ("points as images", "if dimensions == 1:", "if dimensions == 0:"),
        ("captions of the first chunk", "conditions.part(start, start + chunk)", "conditions.part(0, chunk)"),
        ("drawn twice", "times > 1 or own.steps", "own.steps"),
        ("no steps", " or own.steps < 1), None)", "), None)"),
        ("samples of another count", "or len(points) != count:", ":"),
        (
            "an index that lacks arrays",
            "for draw in wanted if draw not in found]",
            "for draw in wanted if False]",
        ),
    ),
    *within(
        "evaluation/sample.py",
        "image_tables::test_solvers_are_rows_of_their_own "
        "image_tables::test_calls_of_an_adaptive_solver_are_averaged_over_the_chunks "
        "image_tables::test_samples_are_stored_as_the_images_that_are_measured "
        "image_tables::test_nan_in_a_checkpoint_is_named_before_anything_is_measured large_images",
        ("calls of the last chunk", "sum(p.nfe * len(p.points) for p in parts) / len(x0)", "parts[-1].nfe"),
        ("a solver under its method's label", 'f"{own[name]}, {s}"', "own[name]"),
        (
            "a solver's own network",
            '(f"{method}-{solver}", method, solver, n, seeds)',
            '(f"{method}-{solver}", f"{method}-{solver}", solver, n, seeds)',
        ),
        ("NaN is stored", "if not points.isfinite().all():", "if False:"),
        ("images of another scale", "/ (experiment.source.top / 2) - 1", "/ experiment.source.top - 1"),
    ),
    *within(
        "evaluation/measure.py",
        "evidence_protocols",
        (
            "counted calls not compared",
            "calls.notna() & (index.nfe != calls)",
            "calls.isna() & (index.nfe != calls)",
        ),
        ("W2 on the same noise", "(seeds.index(r.sample_seed) + 1)", "(seeds.index(r.sample_seed) + 0)"),
        (
            "the map's distance on another noise",
            "for s in (r.sample_seed, other)",
            "for s in (other, r.sample_seed)",
        ),
        ("the first training's teacher", "seed, s] for s in", "settings.training.seeds[0], s] for s in"),
        (
            "one teacher for the exact map",
            "settings.training.seeds if r.method == EXACT",
            "settings.training.seeds[:1] if r.method == EXACT",
        ),
        (
            "one step of another training",
            "single.get((r.method, r.train_seed, r.sample_seed))",
            "single.get((r.method, 0, r.sample_seed))",
        ),
        ("one step of any number of calls", "for r in rows if r.nfe == 1}", "for r in rows}"),
        ("calls of the first seed", '.transform("mean").round()', '.transform("first").round()'),
        ("the fewest empty cells", '"empty", "method", "nfe", "max"', '"empty", "method", "nfe", "min"'),
        ("medians for means", '"method", "mean", sort=False', '"method", "median", sort=False'),
        (
            "another count in the protocol",
            '"count": sampling.count, "bins"',
            '"count": metrics.w2_samples, "bins"',
        ),
        ("rows of samples drawn twice", "require_once(index, KEYS[:1]", "str(KEYS[:1]"),
        ("samples are not counted", "opened(folder / file, settings.sampling.count)", "pass"),
        ("labels forgotten", '"label": names[source["method"]]', '"label": source["method"]'),
    ),
    *within(
        "evaluation/measures.py",
        "evidence_protocols",
        ("KL's bins", "against.settings.metrics.bins)", "50)"),
        ("one part of the target for all", "start = order * size", "start = 0 * size"),
        ("W2 on the first sample's noise", "np.load(t.other_noise)[:size]", "np.load(t.same_noise)[:size]"),
        ("map distance on other noise", "np.load(t.same_noise)) for t", "np.load(t.other_noise)) for t"),
        ("all samples said of W2", '"value": value, "samples": size}]', '"value": value}]'),
        ("empty cells not kept", '"empty": result.empty', '"empty": 0'),
        (
            "exact keeps its own seed",
            '{"metric": MAP_TEACHER, "value": value, "train_seed": seed}',
            '{"metric": MAP_TEACHER, "value": value}',
        ),
    ),
    *within(
        "evaluation/measures.py",
        "evidence_protocols defaults image_tables::test_one_step_is_one_network_call",
        (
            "T-FID on the same noise",
            "np.load(cell.teachers[0].other_noise)",
            "np.load(cell.teachers[0].same_noise)",
        ),
        ("KID's pairs", "max(samples, against) <= ALL_PAIRS", "min(samples, against) <= ALL_PAIRS"),
        ("neighbours", "NEIGHBOURS = 3", "NEIGHBOURS = 5"),
        ("compared with itself", "if other is None or other == cell.samples:", "if other is None:"),
        ("SSIM is better when lower", '(ONE_STEP["PSNR"], ONE_STEP["SSIM"])', '(ONE_STEP["PSNR"],)'),
        (
            "recall is better when lower",
            '("features", "neighbours"), ("recall",))',
            '("features", "neighbours"))',
        ),
    ),
    *within(
        "evaluation/speed.py",
        "evidence_protocols",
        ("the mean for the median", '.agg(["median", "std"])', '.agg(median="mean", std="std")'),
        ("a decoding left out", "value + once,", "value,"),
        ("a velocity for a jump", '"jump" if row.method in jumping else "velocity"', '"velocity"'),
        ("the largest batch is the best", 'call["median"].idxmin()', 'call["median"].idxmax()'),
        ("the deviation of one call", "row.nfe * call.loc[batch]", "[row.nfe, 1] * call.loc[batch]"),
        ("deviations added", "float(np.hypot(deviation, spread))", "float(deviation + spread)"),
    ),
    *within(
        "evaluation/methods.py",
        "shown_sentences",
        (
            "rising called falling",
            "any(last >= first for first, last in own)",
            "all(last >= first for first, last in own)",
        ),
        (
            "largest and smallest gradients",
            "max(norms, key=norms.get), min(norms, key=norms.get)",
            "min(norms, key=norms.get), max(norms, key=norms.get)",
        ),
        ("the farthest first", "key=lambda pair: pair[1])", "key=lambda pair: -pair[1])"),
        ("arrays for samples", "index['count'].sum()", "len(index)"),
    ),
    *within(
        "evaluation/findings.py",
        "shown_sentences",
        (
            "a mean difference for a root mean square",
            "np.sqrt(np.square(a.astype(np.float64) - b).mean())",
            "np.abs(a.astype(np.float64) - b).mean()",
        ),
        ("the first tenth twice", "values[-tenth:].mean()", "values[:tenth].mean()"),
        ("channels not scaled", 'described["scale"] * np.array', "np.array"),
        ("chance of another count", "{1 / pairs:.1%}", "{2 / pairs:.1%}"),
    ),
    *within(
        "evaluation/speed.py",
        "shown_sentences image_tables::test_seconds_are_calls_times_the_median_call",
        ("seconds for milliseconds", "(1e3 * wide)", "(1 * wide)"),
        (
            "the ratio of times the wrong way round",
            'call["velocity"] / call["jump"]',
            'call["jump"] / call["velocity"]',
        ),
    ),
    *within(
        "evaluation/protocol_sensitivity.py",
        "protocol_sensitivity",
        (
            "changes not paired",
            "base = own.set_index(seed).value.to_dict()",
            "base = {k: own.value.mean() for k in map(tuple, own[seed].to_numpy())}",
        ),
        (
            "one best seed for all trainings",
            'own.groupby(["method", "train_seed"]).value.idxmin()',
            'own.groupby(["method"]).value.idxmin()',
        ),
        (
            "the setting of the lowest number",
            '.groupby("method").value.mean().idxmin()',
            '.groupby("method").value.min().idxmin()',
        ),
        ("every method a setting", 'm == method or names[m].startswith(f"{names[method]}, ")', "True"),
        (
            "the first half for a random one",
            ".permutation(len(values))[",
            ".choice(1) + np.arange(len(values))[",
        ),
        (
            "other weights against another reference",
            "found[WITHOUT_EMA] = of_samples(_features(last, extractor, device), own)",
            "found[WITHOUT_EMA] = of_samples(_features(last, extractor, device), references.other)",
        ),
        ("a lossy file passes for PNG", "np.array_equal(stored, images)", "True"),
    ),
    *within(
        "evaluation/protocol_effects.py",
        "protocol_sensitivity",
        (
            "the ranking of the own protocol",
            'row["lower"] = first if between > 0',
            'row["lower"] = first if gap > 0',
        ),
    ),
    *within(
        "training/train.py",
        "protocol_sensitivity::test_the_weights_of_the_last_step_are_kept_beside_the_average",
        (
            "the average as the last weights",
            "experiment, method, seed), path, STUDENT)",
            "experiment, method, seed), path)",
        ),
    ),
    *within(
        "evaluation/findings.py",
        "protocol_sensitivity",
        ("a turned ranking not seen", "if between[choice] != np.sign(gap)]", "if between[choice] == 7]"),
    ),
    *within(
        "evaluation/findings.py",
        "findings",
        (
            "the worst called the best",
            'cells.value.max() if _better(metric) == "higher"',
            'cells.value.max() if _better(metric) == "lower"',
        ),
        ("the exact row a rival", "(table.method != EXACT) & ", ""),
        (
            "better and worse exchanged",
            "np.where(cells.metric.isin(list(HIGHER_IS_BETTER)), 1, -1)",
            "np.where(cells.metric.isin(list(HIGHER_IS_BETTER)), -1, 1)",
        ),
        (
            "ties are one",
            "ties = cells[cells.value.map(_number) == value]",
            "ties = cells[cells.value.map(_number) == value][:1]",
        ),
        ("sampling counted as training", "((~sampling, ", "((sampling | True, "),
        (
            "least and most exchanged",
            "cells.value.idxmin(), cells.value.idxmax()",
            "cells.value.idxmax(), cells.value.idxmin()",
        ),
    ),
]
