"""Faults in metrics/: the metrics."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "metrics/points.py",
        "metrics",
        ("area of a bin", "(2 / bins) ** 2", "(1 / bins) ** 2"),
        ("an empty bin given one sample", "np.where(empty, 0.5, counts)", "np.where(empty, 1.0, counts)"),
        ("mass outside forgiven", "total = len(samples) +", "total = counts.sum() +"),
        ("half samples not counted among all", "len(samples) + empty.sum() / 2", "len(samples)"),
        (
            "the other KL",
            "area[mass] * DENSITY * (log(DENSITY)",
            "estimate[mass] * (2 / bins) ** 2 * (log(DENSITY)",
        ),
    ),
    *within(
        "metrics/points.py",
        "metrics",
        ("W1 for W2", '"sqeuclidean"', '"euclidean"'),
        ("no assignment", "cost[linear_sum_assignment(cost)].mean()", "cost.diagonal().mean()"),
        ("mean over coordinates", ".sum(1).mean()", ".mean()"),
    ),
    *within(
        "metrics/frechet.py",
        "image_metrics",
        ("means forgotten", "np.square(a.mean - b.mean).sum() + ", ""),
        ("the cross term once", "- 2 * _trace_of_root", "- _trace_of_root"),
        ("divided by the count", "/ (count - 1)", "/ count"),
        (
            "squares taken for roots",
            "total, doubt = np.sqrt(squares.clip(0)).sum()",
            "total, doubt = squares.clip(0).sum()",
        ),
    ),
    *within(
        "metrics/pairs.py",
        "image_metrics",
        ("biased", "(len(x) * (len(x) - 1))", "(len(x) * len(x))"),
        ("quadratic kernel", "((block / x.shape[1] + 1) ** 3)", "((block / x.shape[1] + 1) ** 2)"),
        ("the cross term once", "- 2 * _kernel_sum(a, b)", "- _kernel_sum(a, b)"),
    ),
    *within(
        "metrics/pairs.py",
        "image_metrics",
        (
            "a neighbour too many",
            "np.partition(squares, k - 1, axis=1)[:, k - 1]",
            "np.partition(squares, k, axis=1)[:, k]",
        ),
        (
            "precision and recall swapped",
            "PrecisionRecall(precision, recall)",
            "PrecisionRecall(recall, precision)",
        ),
        (
            "samples not shifted with the data",
            "generated = generated - real.centre",
            "generated = generated + real.centre",
        ),
        ("every ball is asked for", "(squares <= reach).any(1)", "(squares <= reach).all(1)"),
    ),
    *within(
        "metrics/step_consistency.py",
        "step_consistency",
        ("decibels of an amplitude", "10 * np.log10(top**2", "20 * np.log10(top**2"),
        ("K1 and K2 exchanged", "(K1 * top) ** 2, (K2 * top) ** 2", "(K2 * top) ** 2, (K1 * top) ** 2"),
        ("covariance without its means", "_mean(a * b, window) - ab", "_mean(a * b, window)"),
        ("maps not normalised", "/ (np.sqrt(np.square(maps).sum(1, keepdims=True)) + EPSILON)", "/ 1.0"),
    ),
    *within(
        "metrics/frechet_bias.py",
        "frechet_bias",
        ("one half alone", "of_samples(parts[1], reference)) / 2", "of_samples(parts[0], reference)) / 2"),
        ("extrapolated the wrong way", "2 * whole - half", "2 * half - whole"),
    ),
]
