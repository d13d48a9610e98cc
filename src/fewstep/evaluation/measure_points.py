"""The metrics of points in the plane."""

from __future__ import annotations

import numpy as np

from ..metrics.kl import kl_to_checkerboard
from ..metrics.wasserstein import map_distance, squared_w2
from .metric import Against, Cell, Metric, Row

KL = "KL to target"
W2_TARGET, W2_TEACHER, MAP_TEACHER = "W2^2 to target", "W2^2 to teacher samples", "L2 to teacher map"


def _kl(cell: Cell, against: Against) -> list[Row]:
    result = kl_to_checkerboard(cell.points, against.settings.metrics.bins)
    return [{"metric": KL, "value": result.value, "empty": result.empty}]


def _w2_target(cell: Cell, against: Against) -> list[Row]:
    size, target = against.settings.metrics.w2_samples, np.load(against.target, mmap_mode="r")
    # every sampling seed meets its own part of the target's points
    order = against.settings.sampling.seeds.index(cell.sample_seed)
    start = order * size % (len(target) - size + 1)
    value = squared_w2(cell.points[:size], target[start : start + size])
    return [{"metric": W2_TARGET, "value": value, "samples": size}]


def _w2_teacher(cell: Cell, against: Against) -> list[Row]:
    size = against.settings.metrics.w2_samples
    own = {"metric": W2_TEACHER, "samples": size}
    return [
        own
        | {"value": squared_w2(cell.points[:size], np.load(t.other_noise)[:size]), "train_seed": t.train_seed}
        for t in cell.teachers
    ]


def _map_teacher(cell: Cell, against: Against) -> list[Row]:
    own = {"metric": MAP_TEACHER}
    return [
        own | {"value": map_distance(cell.points, np.load(t.same_noise)), "train_seed": t.train_seed}
        for t in cell.teachers
    ]


def _teacher(against: Against) -> str:
    teacher = against.settings.metrics.reference
    return f"{teacher.method} at {teacher.steps} Euler steps"


def _kl_protocol(against: Against) -> dict[str, str]:
    count, bins = against.settings.sampling.count, against.settings.metrics.bins
    grid = f"{count} samples, {bins}x{bins} bins on [-1,1]^2, exact quadrature"
    return {KL: f"KL(target || histogram), {grid}"}


def _w2_target_protocol(against: Against) -> dict[str, str]:
    size = against.settings.metrics.w2_samples
    return {W2_TARGET: f"exact assignment, {size} samples against {size} of data/checkerboard.npy"}


def _w2_teacher_protocol(against: Against) -> dict[str, str]:
    size = against.settings.metrics.w2_samples
    both = f"{size} samples against {size} of {_teacher(against)}"
    return {W2_TEACHER: f"exact assignment, {both}, independent noise"}


def _map_teacher_protocol(against: Against) -> dict[str, str]:
    how = f"root mean square over {against.settings.sampling.count} noises"
    return {MAP_TEACHER: f"{how}, against {_teacher(against)}, same noise and training seed"}


METRICS = {
    "kl": Metric(
        (KL,),
        "From the target to the histogram of samples, so missing a square costs more than spilling over its "
        "edge. Bins that straddle an edge cost a perfect sampler 0.054 on the 50-bin grid, and finite samples "
        "more; a bin that caught no sample counts as half of one, without which KL would be infinite.",
        _kl,
        _kl_protocol,
    ),
    "w2_target": Metric(
        (W2_TARGET,),
        "The squared Wasserstein distance to points of the target.",
        _w2_target,
        _w2_target_protocol,
        ("target",),
    ),
    "w2_teacher": Metric(
        (W2_TEACHER,),
        "The squared Wasserstein distance to the teacher's samples from another noise.",
        _w2_teacher,
        _w2_teacher_protocol,
    ),
    "map_teacher": Metric(
        (MAP_TEACHER,),
        "How far the student's points lie from the teacher's of the same noise.",
        _map_teacher,
        _map_teacher_protocol,
    ),
}
