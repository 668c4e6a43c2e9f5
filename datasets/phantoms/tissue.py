"""What the procedural slices of heads and bodies share: tissue contrasts, painting, vessels, the scanner."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.datasets.phantoms.fields import band_field, choose, cover, grid, line_distance, smooth_field, uniform

__all__ = ["contrast", "ellipse", "finish", "paint", "soft_tissue", "spot", "vessels_and_lesions"]

# Grey values (skin, fat, muscle, compact bone, marrow, fluid, grey matter, white matter) of common contrasts.
CONTRASTS = {
    "t1": (0.45, 1.00, 0.45, 0.06, 0.70, 0.15, 0.52, 0.74),
    "t2": (0.40, 0.65, 0.25, 0.04, 0.45, 1.00, 0.58, 0.42),
    "pd": (0.60, 0.80, 0.60, 0.08, 0.60, 0.85, 0.90, 0.75),
    "flair": (0.45, 0.75, 0.40, 0.05, 0.50, 0.12, 0.75, 0.58),
}


def contrast(rng: torch.Generator) -> dict[str, float]:
    """Random grey values by tissue: a jittered common contrast, or (one in seven) independent ones."""
    names = ("skin", "fat", "muscle", "bone", "marrow", "fluid", "grey", "white")
    if choose(rng, 0.15):
        values = [uniform(rng, 0.05, 1.0) for _ in names]
        values[3] *= 0.2
    else:
        kind = ("t1", "t1", "t2", "pd", "flair")[int(uniform(rng, 0, 5))]
        values = [max(0.02, v * uniform(rng, 0.85, 1.15) + uniform(rng, -0.03, 0.03)) for v in CONTRASTS[kind]]
        if choose(rng, 0.3):  # fat suppression
            values[1] *= uniform(rng, 0.15, 0.5)
            values[4] *= uniform(rng, 0.15, 0.5)
    grey = dict(zip(names, values, strict=True))
    # Long echo trains, thick slices and low fields weaken the contrast within the brain.
    grey["grey"] = grey["white"] + uniform(rng, 0.25, 1.1) * (grey["grey"] - grey["white"])
    grey["sulcus"] = grey["grey"] + uniform(rng, 0.2, 1.0) * (grey["fluid"] - grey["grey"])
    grey["vary"] = 1.0  # how much tissues differ from place to place
    return grey


def ellipse(x: Tensor, y: Tensor, centre: tuple[float, float], radii: tuple[float, float], turn: float) -> Tensor:
    """Approximate depth (same unit as x and y) inside an ellipse turned by ``turn`` radians."""
    dx, dy = x - centre[0], y - centre[1]
    c, s = math.cos(turn), math.sin(turn)
    r = torch.sqrt(((c * dx + s * dy) / radii[0]) ** 2 + ((c * dy - s * dx) / radii[1]) ** 2)
    return (1.0 - r) * min(radii)


def paint(image: Tensor, mask: Tensor, value: Tensor | float) -> None:
    """image <- (1 - mask) image + mask value, in place."""
    image.add_(mask * (value - image))


def spot(image: Tensor, region: Tensor, row: int, column: int, radius: float, soft: float, value: float) -> None:
    """Paint a soft disc within its bounding box, in place."""
    size = image.shape[-1]
    reach = int(radius + soft) + 2
    rows, columns = (slice(max(0, c - reach), min(size, c + reach + 1)) for c in (row, column))
    y = torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None] - row
    x = torch.arange(columns.start, columns.stop, dtype=torch.float32)[None, :] - column
    mask = cover(radius - torch.sqrt(x**2 + y**2), soft) * region[rows, columns]
    paint(image[rows, columns], mask, value)


def soft_tissue(rng: torch.Generator, size: int, mm: float, grey: dict[str, float]) -> Tensor:
    """A mosaic of muscle, fat, fluid, bone and air as below the brain: blobs, planes and thin septa."""
    image = grey["muscle"] * (1.0 + 0.1 * grey["vary"] * smooth_field(rng, (size, size), 6.0))
    for name, width, level in (
        ("fat", 35.0, 0.5),
        ("grey", 40.0, 0.9),
        ("bone", 45.0, 1.2),
        ("air", 50.0, 1.2),
    ):
        width, level = width * uniform(rng, 0.7, 1.5) * mm, level + uniform(rng, -0.3, 0.4)
        distance, _ = line_distance(band_field(rng, size, width, 0.6) - level)
        value, strength = (0.0, 1.0) if name == "air" else (grey[name], uniform(rng, 0.3, 1.0))
        paint(image, strength * cover(distance, uniform(rng, 0.8, 3.0)), value)
    septa, _ = line_distance(band_field(rng, size, 16.0 * mm, 0.4))
    paint(image, cover(0.5 * mm - septa.abs()) * cover(band_field(rng, size, 40 * mm) * 4), grey["fat"])
    return image


def vessels_and_lesions(rng: torch.Generator, image: Tensor, region: Tensor, mm: float, grey: dict[str, float]) -> None:
    """Thin winding lines, dots and (sometimes) soft lesions within ``region``, painted in place."""
    size = image.shape[-1]
    tone = uniform(rng, 0.7, 1.2) if choose(rng, 0.5) else 0.03
    tone = grey.get("vessel", tone)
    lines, _ = line_distance(band_field(rng, size, uniform(rng, 22.0, 70.0) * mm, 0.4))
    patch = cover(4.0 * (smooth_field(rng, (size, size), 8.0) - uniform(rng, 0.5, 2.0)))
    paint(
        image,
        cover(uniform(rng, 0.2, 0.8) * mm - lines.abs()) * patch * region * uniform(rng, 0.2, 1.0),
        tone,
    )
    count = int(uniform(rng, 0, 14))
    for _ in range(count):
        row, column = int(uniform(rng, 0, size)), int(uniform(rng, 0, size))
        radius = uniform(rng, 0.5, 1.6) * mm
        spot(image, region, row, column, radius, uniform(rng, 0.8, 1.5), tone)
    if choose(rng, 0.35):
        value = uniform(rng, 0.05, 1.1)
        value = grey.get("lesion", value)
        for _ in range(1 + int(8 * uniform(rng) ** 2)):
            row, column = (int(uniform(rng, 0.25, 0.75) * size) for _ in range(2))
            radius = (1.0 + 11.0 * uniform(rng) ** 3) * mm
            spot(image, region, row, column, radius, uniform(rng, 1.0, 5.0), value)


def finish(rng: torch.Generator, image: Tensor, top: float = 1.2) -> Tensor:
    """Bias field, the scanner's point spread and a random gain; the result lies in [0, top]."""
    size = image.shape[-1]
    x, y = grid(size)
    near_coils = uniform(rng, -0.2, 0.5) * (x**2 + y**2) * (2.0 / size) ** 2
    bias = torch.exp(near_coils + uniform(rng, 0.0, 0.35) * smooth_field(rng, (size, size), 0.9))
    image = image * bias
    spectrum = torch.fft.rfft2(image)
    fy, fx = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    sharp = choose(rng, 0.35)
    for f, line in ((fy, (-1, 1)), (fx, (1, -1))):
        # A window as scanners apply it: flat, then a cosine edge that ends at the acquired resolution.
        end = uniform(rng, 0.42, 0.6) if sharp else uniform(rng, 0.2, 0.45)
        start = end * uniform(rng, 0.2, 0.8)
        ramp = ((f.abs() - start) / (end - start)).clamp(0.0, 1.0)
        spectrum = spectrum * (0.5 + 0.5 * torch.cos(math.pi * ramp)).reshape(line)
    image = torch.fft.irfft2(spectrum, s=(size, size)).abs_()
    level = float(image.flatten().kthvalue(int(0.99 * image.numel()))[0])
    image = image * (uniform(rng, 0.7, 1.0) / max(level, 1e-6))
    return image * min(1.0, top / max(float(image.max()), 1e-6))
