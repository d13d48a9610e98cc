"""One sentence of finding about what is prepared of a data set, from its numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

UNTRAINED = "Nothing was trained here: the weights are published ones."


def tenths(values: np.ndarray) -> tuple[float, float]:
    """The means of the first and of the last tenth of what was logged, (steps,)."""
    tenth = max(len(values) // 10, 1)
    return values[:tenth].mean(), values[-tenth:].mean()


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """The root mean square difference."""
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def classifier(described: Mapping[str, Any]) -> str:
    """On `features.prepare`'s description."""
    if described["accuracy"] is None:
        return f"{described['features']} features an image, published weights; {described['images']}."
    right = f"{100 * described['accuracy']:.1f} %"
    return f"The classifier is right about {right} of the images that it has not seen."


def reconstruction(described: Mapping[str, Any]) -> str:
    """On `autoencoder.train`'s description."""
    parts = [f"{own['PSNR']:.1f} dB on {part}" for part, own in described["figures"].items()]
    return f"Reconstructions reach a PSNR of {' and '.join(parts)}."


def channels(described: Mapping[str, Any]) -> str:
    """On `latents.encode_all`'s description."""
    stds = described["scale"] * np.array(described["channels"]["std"])
    said = f"The standard deviations of the {len(stds)} scaled channels lie between"
    return f"{said} {stds.min():.2f} and {stds.max():.2f}; the noise that a flow starts from has 1."


def retrieval(described: Mapping[str, Any]) -> str:
    """On `clip.train`'s description."""
    parts = []
    for part, own in described["figures"].items():
        found, pairs = own["image to text"], own["pairs"]
        chance = f"({part}; chance {1 / pairs:.1%})"
        parts.append(f"{found:.1%} of {pairs} pictures find their own caption {chance}")
    unmeasured = "Its retrieval is not measured: there are no pairs to measure it on"
    return f"{'; '.join(parts) or unmeasured}."


def images(pixels: np.ndarray) -> str:
    """On images (count, channels, height, width) in [-1, 1]."""
    count, channels, height, width = pixels.shape
    mean = f"the mean of their values in [-1, 1] is {pixels.mean():.2f}"
    return f"{count} images, {channels} x {height} x {width}; {mean}."


def apart(rows: Mapping[str, np.ndarray], flipped: bool = False) -> str:
    """How far each row of images in [-1, 1] is from the one above it; with `flipped`, the last mirrored."""
    names, said = list(rows), []
    for above, below in zip(names, names[1:]):
        other = rows[below][..., ::-1] if flipped and below == names[-1] and len(names) > 2 else rows[below]
        said.append(f"{above} and {below} {gap(rows[above], other):.2f}")
    return f"Root mean square differences of values in [-1, 1]: {', '.join(said)}."


def log(curves: Mapping[str, np.ndarray]) -> str:
    """On logged quantities, (steps,) each: what they were at first and at last, a tenth of training each."""
    if not curves:
        return UNTRAINED
    said = ["{}: {:.3g}, then {:.3g}".format(name, *tenths(values)) for name, values in curves.items()]
    return f"Means over the first and the last tenth of training: {'; '.join(said)}."
