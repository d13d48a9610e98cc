"""The metrics of points in the plane."""

import numpy as np

from ..metrics.points import kl_to_checkerboard, map_distance, squared_w2
from .metric import Cell, Comparison, Metric, Row

KL = "KL to target"
W2_TARGET, W2_TEACHER, MAP_TEACHER = "W2^2 to target", "W2^2 to teacher samples", "L2 to teacher map"


def _kl(cell: Cell, against: Comparison) -> list[Row]:
    result = kl_to_checkerboard(cell.points, against.settings.metrics.bins)
    return [{"metric": KL, "value": result.value, "empty": result.empty}]


def _w2_target(cell: Cell, against: Comparison) -> list[Row]:
    size, target = against.settings.metrics.w2_samples, np.load(against.target, mmap_mode="r")
    # every sampling seed meets its own part of the target's points
    order = against.settings.sampling.seeds.index(cell.sample_seed)
    start = order * size % (len(target) - size + 1)
    value = squared_w2(cell.points[:size], target[start : start + size])
    return [{"metric": W2_TARGET, "value": value, "samples": size}]


def _w2_teacher(cell: Cell, against: Comparison) -> list[Row]:
    size = against.settings.metrics.w2_samples
    values = {
        t.train_seed: squared_w2(cell.points[:size], np.load(t.other_noise)[:size]) for t in cell.teachers
    }
    own = {"metric": W2_TEACHER, "samples": size}
    return [own | {"value": value, "train_seed": seed} for seed, value in values.items()]


def _map_teacher(cell: Cell, against: Comparison) -> list[Row]:
    values = {t.train_seed: map_distance(cell.points, np.load(t.same_noise)) for t in cell.teachers}
    return [{"metric": MAP_TEACHER, "value": value, "train_seed": seed} for seed, value in values.items()]


METRICS = {
    "kl": Metric(
        {KL: "KL(target || histogram), {count} samples, {bins}x{bins} bins on [-1,1]^2, exact quadrature"},
        "From the target to the histogram, so missing a square costs more than spilling over its edge. Bins "
        "that straddle an edge cost even a perfect sampler something (0.054 with 50 along an axis); a bin "
        "that caught no sample counts as half of one, also in their sum: KL would be infinite else.", _kl),
    "w2_target": Metric(
        {W2_TARGET: "exact assignment, {size} samples against {size} of data/checkerboard.npy"},
        "The squared Wasserstein distance to points of the target.", _w2_target, ("target",)),
    "w2_teacher": Metric(
        {W2_TEACHER: "exact assignment, {size} samples against {size} of {teacher}, independent noise"},
        "The squared Wasserstein distance to the teacher's samples from another noise.", _w2_teacher),
    "map_teacher": Metric(
        {MAP_TEACHER: "root mean square over {count} noises, against {teacher}, "
                      "same noise and training seed"},
        "How far the points lie from the teacher's of the same noise.", _map_teacher),
}  # fmt: skip
