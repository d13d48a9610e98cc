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
        f"The standard deviations of the {len(stds)} scaled channels lie between {stds.min():.2f} and {stds.max():.2f}; "
        "the noise that a flow starts from has 1."
    )


def retrieval(described: Mapping[str, Any]) -> str:
    """On `clip.train`'s description."""
    parts = [
        f"{own['image to text']:.1%} of {own['pairs']} pictures find their own caption ({part}; chance {1 / own['pairs']:.1%})"
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
    return f"{count} images, {channels} x {height} x {width}; the mean of their values in [-1, 1] is {pixels.mean():.2f}."
