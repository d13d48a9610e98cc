"""Step consistency: how far apart the images are that one noise becomes in different numbers of steps.

Image k of `a` and image k of `b` come from the same noise; images are uint8 (count, channels, height, width)
with levels 0..top. Every function raises ValueError for images that are no pairs, or above `top`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import correlate1d
from torch import nn

CAP = 60.0  # dB of identical images, and the most of any pair: infinity has no mean
# Wang et al. 2004: the window, its standard deviation in pixels, and the constants that keep divisions stable
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
EPSILON = 1e-10  # LPIPS's: under a position where no channel is active
BATCH = 16  # images at a time: five float64 copies of 16 at 256 x 256 are 120 MB

# feature maps of uint8 images (count, channels, height, width): one array (count, features, ...) a layer
Maps = Callable[[np.ndarray], Sequence[np.ndarray]]
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _by_blocks(measure: Measure, a: np.ndarray, b: np.ndarray, top: int = 255) -> np.ndarray:
    """`measure` of each pair, (count,), BATCH pairs at a time."""
    if a.ndim != 4 or a.dtype != np.uint8 or b.dtype != np.uint8 or not a.size:
        found = f"{a.dtype} of {a.shape} and {b.dtype} of {b.shape}"
        raise ValueError(f"step consistency needs uint8 images (count, channels, height, width), not {found}")
    if a.shape != b.shape:
        raise ValueError(f"images come in pairs, and these are of shape {a.shape} and {b.shape}")
    if (found := max(a.max(), b.max())) > top:
        raise ValueError(f"images with levels 0..{top} hold a level {found}: give the `top` that is theirs")
    return np.concatenate([measure(a[k : k + BATCH], b[k : k + BATCH]) for k in range(0, len(a), BATCH)])


def psnr(a: np.ndarray, b: np.ndarray, top: int = 255) -> np.ndarray:
    """10 log10(top^2 / mean (a - b)^2) in dB for each pair, (count,), float64; higher is nearer.

    The mean is over an image's channels and pixels. No pair scores more than 60 dB, as identical images do.
    """
    error = _by_blocks(
        lambda one, other: np.square(one.astype(np.float64) - other).mean((1, 2, 3)), a, b, top
    )
    return np.asarray(10 * np.log10(top**2 / np.maximum(error, top**2 / 10 ** (CAP / 10))))


def window_of(side: int) -> np.ndarray:
    """The Gaussian weights of SSIM's window along one side of an image of `side` pixels; they add up to one.

    11 of them from 20 pixels on, as published; on smaller images the largest odd number that leaves it half
    of the side's pixels or more to stand at (5 of 8, 9 of 16). Raises ValueError for less than 4 pixels.
    """
    if side < 4:
        raise ValueError(f"SSIM needs images of 4 pixels a side or more, not {side}")
    width = min(WINDOW, side // 4 * 2 + 1)
    weights = np.exp(-0.5 * np.square((np.arange(width) - width // 2) / SIGMA))
    return np.asarray(weights / weights.sum())


def _mean(x: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The weighted mean of `x` (..., height, width) at every place where the whole window lies inside it."""
    reach = len(window) // 2
    down = correlate1d(x, window, axis=-2)[..., reach : x.shape[-2] - reach, :]
    return np.asarray(correlate1d(down, window, axis=-1)[..., reach : x.shape[-1] - reach])


def ssim(a: np.ndarray, b: np.ndarray, top: int = 255) -> np.ndarray:
    """The structural similarity of each pair, (count,), at most 1; higher is nearer (Wang et al. 2004).

    (2 m_a m_b + C1)(2 s_ab + C2) / ((m_a^2 + m_b^2 + C1)(s_a^2 + s_b^2 + C2)), C1 = (0.01 top)^2, C2 = (0.03
    top)^2: means m, variances s^2 and covariance s_ab (not corrected for bias) in a Gaussian window of
    deviation 1.5 (`window_of`); the mean over all places of the window inside the image, and the channels.
    """
    c1, c2 = (K1 * top) ** 2, (K2 * top) ** 2

    def measure(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        window, a, b = window_of(min(a.shape[2:])), a.astype(np.float64), b.astype(np.float64)
        mean_a, mean_b = _mean(a, window), _mean(b, window)
        aa, bb, ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
        # s_a^2 and s_b^2 are wanted in their sum alone, which costs one window instead of two
        both, covariance = _mean(a * a + b * b, window) - (aa + bb), _mean(a * b, window) - ab
        similarity = (2 * ab + c1) * (2 * covariance + c2) / ((aa + bb + c1) * (both + c2))
        return np.asarray(similarity.mean((1, 2, 3)))

    return _by_blocks(measure, a, b, top)


def feature_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean over positions of |a / |a| - b / |b||^2, (count,), of pairs of maps (count, features, ...).

    The norms run over the features at one position; plain features (count, features) have one. Raises
    ValueError for maps of different shape.
    """
    if a.shape != b.shape or a.ndim < 2:
        found = f"{a.shape} and {b.shape}"
        raise ValueError(f"feature maps of pairs have one shape (count, features, ...), not {found}")
    pair = (maps.astype(np.float64).reshape(*maps.shape[:2], -1) for maps in (a, b))
    u, v = (maps / (np.sqrt(np.square(maps).sum(1, keepdims=True)) + EPSILON) for maps in pair)
    return np.asarray(np.square(u - v).sum(1).mean(1))


def layer_distance(maps: Maps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of `feature_distance` over the layers of `maps`, for each pair of images, (count,), float64.

    LPIPS (arXiv 1801.03924, eq. 1) in the network of `maps`, with all weights one and the layers averaged
    instead of summed: its numbers do not compare with anybody's LPIPS.
    """

    def measure(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        layers = zip(maps(one), maps(other), strict=True)
        return np.asarray(np.mean([feature_distance(*layer) for layer in layers], axis=0))

    return _by_blocks(measure, a, b)


def activations(convolutions: nn.Sequential, top: int = 255, device: str | torch.device = "cpu") -> Maps:
    """The maps after each SiLU of `convolutions`, which take float32 images in [-1, 1]."""

    @torch.no_grad()
    def maps(images: np.ndarray) -> list[np.ndarray]:
        x, found = torch.from_numpy(images.astype(np.float32)).to(device) / (top / 2) - 1, []
        for layer in convolutions.to(device):
            x = layer(x)
            if isinstance(layer, nn.SiLU):
                found.append(x.cpu().numpy())
        return found

    return maps


def distances(a: np.ndarray, b: np.ndarray, maps: Maps, top: int = 255) -> dict[str, float]:
    """The means over all pairs: "PSNR" in dB, "SSIM" (higher is nearer), "feature distance" (lower is)."""
    found = {"PSNR": psnr(a, b, top), "SSIM": ssim(a, b, top), "feature distance": layer_distance(maps, a, b)}
    return {name: float(values.mean()) for name, values in found.items()}
