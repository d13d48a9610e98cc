"""One sentence of finding about what is prepared of a data set, from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def classifier(described: Mapping[str, Any]) -> str:
    """On `features.prepare`'s description."""
    right, against = described["accuracy"], described["images"]
    if right is None:
        return f"{described['features']} features an image, published weights; {against}."
    return f"The classifier is right about {100 * right:.1f} % of the images that it has not seen."


def reconstruction(described: Mapping[str, Any]) -> str:
    """On `autoencoder.train`'s description."""
    parts = [f"{own['PSNR']:.1f} dB on {part}" for part, own in described["figures"].items()]
    return f"Reconstructions reach a PSNR of {' and '.join(parts)}."


def channels(described: Mapping[str, Any]) -> str:
    """On `latents.encode_all`'s description."""
    stds = described["scale"] * np.array(described["channels"]["std"])
    return (
        f"The standard deviations of the {len(stds)} scaled channels lie between {stds.min():.2f} and "
        f"{stds.max():.2f}; the noise that a flow starts from has 1."
    )


def retrieval(described: Mapping[str, Any]) -> str:
    """On `clip.train`'s description."""
    parts = [
        f"{own['image to text']:.1%} of {own['pairs']} pictures find their own caption ({part}; "
        f"chance {1 / own['pairs']:.1%})"
        for part, own in described["figures"].items()
    ]
    return (
        f"{'; '.join(parts)}."
        if parts
        else "Its retrieval is not measured: there are no pairs to measure it on."
    )


def images(pixels: np.ndarray) -> str:
    """On images (count, channels, height, width) in [-1, 1]."""
    count, channels, height, width = pixels.shape
    mean = f"the mean of their values in [-1, 1] is {pixels.mean():.2f}"
    return f"{count} images, {channels} x {height} x {width}; {mean}."


def apart(rows: Mapping[str, np.ndarray], flipped: bool = False) -> str:
    """On rows of images in [-1, 1], how far each is from the one above it; with `flipped`, the last one seen
    in a mirror.
    """
    names = list(rows)
    said = []
    for above, below in zip(names, names[1:]):
        other = rows[below][..., ::-1] if flipped and below == names[-1] and len(names) > 2 else rows[below]
        gap = float(np.sqrt(np.square(rows[above].astype(np.float64) - other).mean()))
        said.append(f"{above} and {below} {gap:.2f}")
    return f"Root mean square differences of values in [-1, 1]: {', '.join(said)}."


def log(curves: Mapping[str, np.ndarray]) -> str:
    """On logged quantities, (steps,) each: what they were at first and at last, a tenth of training each."""
    if not curves:
        return "Nothing was trained here: the weights are published ones."
    tenth = {name: max(len(values) // 10, 1) for name, values in curves.items()}
    said = [f"{n}: {v[: tenth[n]].mean():.3g}, then {v[-tenth[n] :].mean():.3g}" for n, v in curves.items()]
    return f"Means over the first and the last tenth of training: {'; '.join(said)}."
