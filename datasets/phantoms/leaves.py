"""Dead leaves: occluding soft-edged ellipses of all sizes (Lee, Mumford, Huang, IJCV 2001).

Their edges, occlusions and heavy-tailed sizes have the local statistics of natural and medical images, which
is enough to train denoisers that carry over to real ones (Achddou, Gousseau, Ladjal, SSVM 2021).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.phantoms.fields import band_field, uniform

__all__ = ["dead_leaves"]


def dead_leaves(rng: torch.Generator, size: int = 256) -> Tensor:
    """A dead-leaves image: float32 (size, size) in [0, 1.35].

    Radii are r_min u^-0.6 with u uniform, at most 0.45 size (many small, few large); aspect 0.25-1; edges
    soft over 0.3-3 pixels, mostly sharp; grey levels uniform; every third leaf carries a sinusoid, stripes or
    band-limited noise of amplitude up to 0.35, so that the values stay within [0, 1.35].
    """
    dense = uniform(rng, 0.6, 1.6)
    smallest = 2.2 * dense
    count = int(0.011 * size**2 / dense**1.5) + 20
    u = torch.rand(count, 12, generator=rng).double().numpy()
    noise = torch.stack([band_field(rng, size, uniform(rng, 3.0, 12.0), 0.5) for _ in range(2)]).tanh().numpy()
    radius = np.minimum(smallest * np.maximum(u[:, 0], 1e-6) ** -0.6, 0.45 * size)
    aspect = 0.25 + 0.75 * np.sqrt(u[:, 1])
    angle = math.pi * u[:, 2]
    soft = 0.3 + 2.7 * u[:, 3] ** 3
    image = np.full((size, size), uniform(rng), dtype=np.float32)
    order = np.argsort(-radius[: count // 8])  # the first leaves cover the ground, large before small
    rest = np.arange(count // 8, count)
    for i in np.concatenate([order, rest]):
        leaf(image, noise, u[i], float(radius[i]), float(aspect[i]), float(angle[i]), float(soft[i]))
    return torch.from_numpy(image)


def leaf(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    u: NDArray[np.float64],
    radius: float,
    aspect: float,
    angle: float,
    soft: float,
) -> None:
    """Paint one leaf within its bounding box, in place; ``u`` holds twelve uniform numbers."""
    size = image.shape[0]
    c, s = math.cos(angle), math.sin(angle)
    short = max(radius * aspect, 0.7)
    at = (u[4:6] * 1.1 - 0.05) * size
    reach_x = math.hypot(radius * c, short * s) + soft + 1.0
    reach_y = math.hypot(radius * s, short * c) + soft + 1.0
    x0, x1 = max(0, int(at[0] - reach_x)), min(size, int(at[0] + reach_x) + 1)
    y0, y1 = max(0, int(at[1] - reach_y)), min(size, int(at[1] + reach_y) + 1)
    if x0 >= x1 or y0 >= y1:
        return
    x = np.arange(x0, x1, dtype=np.float32) - np.float32(at[0])
    y = (np.arange(y0, y1, dtype=np.float32) - np.float32(at[1]))[:, None]
    a, b = c * x + s * y, c * y - s * x
    r = np.sqrt((a / radius) ** 2 + (b / short) ** 2)
    # First-order distance to the ellipse: (1 - r) over the size of the gradient of r.
    slope = np.sqrt((a / radius**2) ** 2 + (b / short**2) ** 2) / np.maximum(r, 1e-3)
    depth = (1.0 - r) / np.maximum(slope, 1e-6)
    mask = np.clip(depth / soft + 0.5, 0.0, 1.0)
    window = image[y0:y1, x0:x1]
    tone: NDArray[np.float32] | float = float(u[6])
    if u[7] < 1.0 / 3.0:
        tone = tone + (0.05 + 0.3 * u[8] ** 2) * texture(noise, u, a, b, radius, (y0, y1, x0, x1))
        tone = np.abs(tone)
    window += mask * (tone - window)


def texture(
    noise: NDArray[np.float32],
    u: NDArray[np.float64],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    radius: float,
    box: tuple[int, int, int, int],
) -> NDArray[np.float32]:
    """A sinusoid, stripes or band-limited noise of about unit size on a leaf's own coordinates."""
    y0, y1, x0, x1 = box
    if u[9] < 1.0 / 3.0:
        return noise[int(u[10] * len(noise)), y0:y1, x0:x1]
    turn, wavelength = math.pi * u[10], 2.5 * (max(radius, 4.0) / 2.5) ** u[11]
    wave: NDArray[np.float32] = np.sin(2.0 * math.pi / wavelength * (math.cos(turn) * a + math.sin(turn) * b))
    if u[9] > 2.0 / 3.0:
        wave = np.clip(wave * wavelength / 6.0, -1.0, 1.0)  # flat stripes with edges some pixels wide
    return wave
