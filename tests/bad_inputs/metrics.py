"""The metrics and the samplers: what they are given that has no number."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fewstep.flows import samplers
from fewstep.flows.exact.straight import StraightFlow
from fewstep.flows.slerp import slerp
from fewstep.flows.times import Times
from fewstep.metrics import features, jpeg, self_checks, step_consistency
from fewstep.metrics.frechet import frechet, moments
from fewstep.metrics.kid import kid
from fewstep.metrics.kl import kl_to_checkerboard
from fewstep.metrics.precision_recall import precision_recall
from fewstep.metrics.protocol import ImageProtocol, parse
from fewstep.metrics.wasserstein import map_distance, squared_w2

from .case import Case

POINTS = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
FEW = POINTS[:30]
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 3, 16, 16), dtype=np.uint8)
FLOW, ZERO = StraightFlow(torch.eye(2), torch.ones(2)), torch.zeros(4, 2)
PROTOCOL = dict(
    metric="FID", extractor="Inception", split="train", samples=10, format="png", resize="clean",
    reference="0", weights="last", seeds=(0,),
)  # fmt: skip


def _but(values: np.ndarray, bad: float, row: int = 3) -> np.ndarray:
    return np.where(np.arange(len(values))[:, None] == row, bad, values)


def _sampled(name: str, steps: object) -> object:
    return samplers.named(name, torch.Generator(), 1.0)(FLOW, ZERO, steps)  # type: ignore[arg-type]


def _protocol(**changed: object) -> ImageProtocol:
    return ImageProtocol(**PROTOCOL | changed)  # type: ignore[arg-type]


def _link(folder: Path) -> Path:
    (folder / features.INCEPTION).mkdir()
    return folder / features.INCEPTION


KL: list[tuple[str, np.ndarray, str]] = [
    ("a NaN", _but(POINTS, np.nan), r"1 of 4000 rows of the samples for KL .* not finite .* row 3"),
    ("an infinity", _but(POINTS, np.inf), r"not finite \(the first is row 3\): mend"),
    ("no samples", POINTS[:0], "has 0 samples and at least 1"),
    ("three dimensions", np.zeros((4000, 3)), r"shape \(count, 2\), not \(4000, 3\)"),
    ("a row of numbers", np.zeros(4000), r"must be a matrix \(count, dim\)"),
    ("texts", np.array([["a", "b"]]), "must be real numbers, and <U1"),
    ("complex numbers", POINTS * 1j, "must be real numbers, and complex128"),
    ("1,000 samples", POINTS[:1000], r"50x50 bins means nothing with 1,000 samples: draw 2,696 or more"),
    ("100 samples far outside", POINTS[:100] + 40, "means nothing with 100 samples: draw 2,696"),
]
FEATURES: list[tuple[str, Callable[[], object], str]] = [
    ("FID of a NaN", lambda: moments(_but(FEW, np.nan)), "1 of 30 rows of the features are not finite"),
    ("FID of as many samples as features", lambda: moments(np.eye(5)), "5 samples of 5 features have a sing"),
    ("FID of one sample", lambda: moments(np.ones((1, 3))), "has 1 samples and at least 2 are needed"),
    (
        "FID of two extractors",
        lambda: frechet(moments(FEW), moments(POINTS @ np.ones((2, 3)))),
        "2 and 3 feat",
    ),
    ("KID of a NaN", lambda: kid(FEW, _but(FEW, np.nan)), "rows of the second set of features are not"),
    ("KID of no subsets", lambda: kid(FEW, FEW, 0), "at least one subset of at least two samples, not 0"),
    ("KID of two extractors", lambda: kid(FEW, np.ones((9, 3))), "2 dimensions and 3|2 and 3 dimensions"),
    ("precision of too few", lambda: precision_recall(FEW, FEW[:3]), "3 samples and at least 4 are needed"),
    ("precision, no neighbour", lambda: precision_recall(FEW, FEW, 0), "k >= 1 nearest neighbours, not 0"),
    ("precision of an infinity", lambda: precision_recall(_but(FEW, np.inf), FEW), "the data's features are"),
    ("W2 of two sizes", lambda: squared_w2(FEW, FEW[:9]), r"one shape \(count, dim\), not \(30, 2\) and \(9"),
    ("W2 of a NaN", lambda: squared_w2(FEW, _but(FEW, np.nan)), "rows of the second cloud are not finite"),
    ("W2 of nothing", lambda: squared_w2(FEW[:0], FEW[:0]), "the first cloud has 0 samples"),
    ("maps apart by a NaN", lambda: map_distance(_but(FEW, np.nan), FEW), "the first cloud are not"),
    ("an unrepeated check", lambda: self_checks.self_checks(POINTS, np.ones, [9], 0), "0 repeats of"),
    ("a check of a size twice", lambda: self_checks.self_checks(POINTS, np.ones, [9, 9]), "sizes that diff"),
    ("features of floats", lambda: features.extract(IMAGES / 1.0, features.channel_means()), "uint8 images"),
    ("features of no images", lambda: features.extract(IMAGES[:0], features.channel_means()), "uint8 images"),
    ("PSNR above the top", lambda: step_consistency.psnr(IMAGES, IMAGES, 16), r"0\.\.16 hold a lev"),
    ("SSIM of no pairs", lambda: step_consistency.ssim(IMAGES, IMAGES[:2]), "images come in pairs"),
    ("SSIM of three pixels", lambda: step_consistency.ssim(IMAGES[..., :3], IMAGES[..., :3]), "4 pixels a"),
    ("JPEG of four channels", lambda: jpeg.as_jpeg(np.zeros((1, 4, 8, 8), np.uint8)), "JPEG takes uint8"),
    ("JPEG of quality 0", lambda: jpeg.as_jpeg(IMAGES, 0), "quality of a JPEG file is 1 to 95, not 0"),
    ("a protocol of one seed twice", lambda: _protocol(seeds=(0, 0)), "'seeds' are .* all different"),
    ("a protocol of one sample", lambda: _protocol(samples=1), "'samples' is 1: give two or more"),
    ("a protocol with a semicolon", lambda: _protocol(metric="FID; or so"), "'metric' is 'FID; or so'"),
    ("a text that is no protocol", lambda: parse("FID"), "'FID' is not the protocol of a number"),
]
FLOWS: list[tuple[str, Callable[[], object], str]] = [
    ("no steps", lambda: _sampled("euler", 0), "at least one step, not 0"),
    ("half a step", lambda: _sampled("jumps", 0.5), r"at least one step, not 0\.5: give a whole number"),
    ("minus two steps", lambda: _sampled("stochastic-1", -2), "at least one step, not -2"),
    ("a text for steps", lambda: _sampled("heun", "4"), "at least one step, not 4: give a whole number"),
    ("a tolerance finer than the numbers", lambda: _sampled("adaptive", 30), "is 1e-30: give one from 1e-07"),
    ("a tolerance of 100", lambda: _sampled("adaptive", -2), "a step is 100: give one from"),
    ("no sampler", lambda: _sampled("dpm", 2), "there is no sampler 'dpm'; there are jumps, euler"),
    ("a guidance in superscript", lambda: _sampled("guided-²", 2), "there is no sampler 'guided-²'"),
    ("an endless guidance", lambda: _sampled("guided-" + "9" * 400, 2), "there is no sampler 'guided-9"),
    ("a negative beta", lambda: _sampled("stochastic--1", 2), "there is no sampler 'stochastic--1'"),
    ("a gamma above 1", lambda: _sampled("renoised-1.5", 2), "no sampler 'renoised-1.5'; .*<gamma> up to 1"),
    ("a gamma that is none", lambda: _sampled("renoised-", 2), "there is no sampler 'renoised-'"),
    ("a diffusion of 3", lambda: _sampled("sde-3", 2), "no sampler 'sde-3'; there are .*<epsilon> up to 2"),
    ("a kind without its dash", lambda: _sampled("sde0.5", 2), "there is no sampler 'sde0.5'"),
    ("no steps of a stochastic flow", lambda: _sampled("sde-1", 0), "at least one step, not 0"),
    ("an unknown law", lambda: Times(law="normal"), "law must be one of uniform, dyadic, .*, not 'normal'"),
    ("a deviation of none", lambda: Times(law="gap", deviation=0.0), "deviation must be above 0 and finite"),
    ("a grid of 2^99", lambda: Times(law="dyadic", levels=99), r"levels must lie in \[0, 20\], not 99"),
    ("a path of one step", lambda: slerp(ZERO[0], ZERO[1], 1), "2 steps or more, not 1"),
    ("a path between two shapes", lambda: slerp(ZERO[0], ZERO[:2], 3), "joins noises of one shape"),
    ("a strip of NaN", lambda: Times(strip=float("nan")), r"strip must lie in \(0, 1\], not nan"),
    ("fewer than no doublings", lambda: Times(doublings=-1), "doublings must be 0 or more, not -1"),
]  # fmt: skip


def cases() -> list[Case]:
    """Samples, features and images of which there is no number, and samplers that do not sample."""
    kl = [Case("KL", name, lambda _, p=points: kl_to_checkerboard(p), says) for name, points, says in KL]
    others = [Case("metrics", name, lambda _, run=run: run(), says) for name, run, says in FEATURES]
    flows = [Case("samplers", name, lambda _, run=run: run(), says) for name, run, says in FLOWS]
    weights = Case(
        "metrics", "a folder in the place of Inception", lambda f: features.inception(f / features.INCEPTION),
        r"inception-2015-12-05.pt is a folder and no file: put the Inception weights", _link,
    )  # fmt: skip
    return [*kl, *others, *flows, weights]
