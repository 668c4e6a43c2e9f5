"""Procedural slices of a head.

Every tissue is a level set of a depth or of a random field, painted from outside to inside with edges about
one pixel wide. Cortical folds are zero level sets of a band-limited Gaussian field near the brain's surface:
the distance to them is |n| / |grad n| (see `fields.line_distance`), cerebrospinal fluid fills the sulcus,
grey matter is a band around it, white matter the rest. Lengths are in millimetres times ``mm`` pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.datasets.phantoms.fields import band_field, choose, cover, grid, line_distance, smooth_field, uniform
from invdiff.datasets.phantoms.tissue import contrast, ellipse, finish, paint, soft_tissue, vessels_and_lesions

__all__ = ["head_phantom", "head_slice"]


def cortex(
    rng: torch.Generator, size: int, mm: float, depth: Tensor, side: Tensor, up: Tensor, coronal: bool
) -> Tensor:
    """Distance (pixels) to the nearest fluid, in a sulcus or outside, within the brain of given ``depth``."""
    folds = band_field(rng, size, uniform(rng, 21.0, 32.0) * mm, uniform(rng, 0.25, 0.5))
    # Reading the field at a point drawn outwards stretches it along the depth: sulci run inwards, as they do.
    stretch = uniform(rng, 0.25, 0.65) * depth.clamp(0.0, 30.0 * mm)
    x, y = grid(size)
    radius = torch.sqrt(x**2 + y**2).clamp_(min=4.0)
    pull = 1.0 + stretch / radius
    points = torch.stack([x * pull, y * pull], -1) * (2.0 / size)
    folds = torch.nn.functional.grid_sample(
        folds[None, None], points[None], mode="bicubic", padding_mode="reflection", align_corners=False
    )[0, 0]
    sulcus = line_distance(folds)[0].abs()
    reach = uniform(rng, 12.0, 28.0) * torch.exp(0.35 * smooth_field(rng, (size, size), 5.0))
    lateral = torch.exp(-(((up - uniform(rng, -5, 15)) / 14.0) ** 2)) * cover((side.abs() - 25.0) / 5.0)
    reach = (reach + uniform(rng, 4.0, 20.0) * lateral) * mm
    sulcus = torch.sqrt(sulcus**2 + (depth - reach).clamp_(min=0.0) ** 2)
    # The longitudinal fissure: before and behind the corpus callosum (axial slices), above it (coronal ones).
    bend = side + 1.2 * smooth_field(rng, (size, size), 4.0)
    if coronal:
        gap = (up + uniform(rng, 2.0, 16.0)).clamp(min=0.0)
    elif choose(rng, 0.4):
        gap = torch.zeros_like(up)
    else:
        gap = (uniform(rng, 18.0, 34.0) - (up - uniform(rng, -8.0, 8.0)).abs()).clamp(min=0.0)
    fissure = torch.sqrt(bend**2 + gap**2) * mm
    sulcus = torch.minimum(sulcus, fissure)
    # Sulci are open in one place and closed (negative: grey matter touches) in another.
    width = (uniform(rng, -1.2, 0.9) + uniform(rng, 0.1, 0.7) * smooth_field(rng, (size, size), 5.0)) * mm
    return torch.minimum(sulcus - width, depth)


def deep_structures(
    rng: torch.Generator,
    image: Tensor,
    side: Tensor,
    up: Tensor,
    mm: float,
    coronal: bool,
    grey: dict[str, float],
) -> None:
    """Basal ganglia, thalamus and ventricles, symmetric up to a small shift, painted in place."""
    size = image.shape[-1]
    s = (side + 0.8 * smooth_field(rng, (size, size), 3.0)).abs()
    mix = uniform(rng, 0.2, 1.0)
    nucleus = grey["white"] + mix * (grey["grey"] - grey["white"])
    j = [uniform(rng, 0.8, 1.25) for _ in range(12)]
    if coronal:
        parts = [
            ((9 * j[0], 8.0), (8.0 * j[1], 11 * j[2]), 0.2),
            ((25 * j[3], 5.0), (5 * j[4], 13 * j[5]), -0.35),
        ]
        parts += [
            ((12 * j[6], -10.0), (4 * j[7], 6 * j[8]), 0.9),
            ((20 * j[3], 28.0), (8 * j[4], 5 * j[1]), 0.4),
        ]
    else:
        parts = [
            ((10 * j[0], 10.0), (7 * j[1], 13 * j[2]), 0.5),
            ((25 * j[3], -4.0), (5 * j[4], 16 * j[5]), -0.3),
        ]
        parts += [
            ((11 * j[6], -22.0), (5 * j[7], 9 * j[8]), -0.2),
            ((19 * j[3], -1.0), (4 * j[4], 9 * j[5]), -0.3),
        ]
    for k, (centre, radii, turn) in enumerate(parts):
        tone = nucleus * (1.0 + 0.12 * (j[9] - 1.0) * (k - 1))
        paint(image, cover(ellipse(s, up, centre, radii, turn) * mm, uniform(rng, 1.0, 4.0)), tone)
    open_ = uniform(rng, 0.4, 1.9)
    fluid = torch.zeros_like(image)
    if coronal:
        middle = -13.0 + (0.35 * j[9]) * s
        height = open_ * (3.2 * j[10]) * (1.0 - ((s - 11.0) / (12.0 * j[11])) ** 2).clamp(min=-1.0)
        fluid = cover((height - (up - middle - 6.0).abs()) * mm)
        slit = ellipse(s, up, (0.0, 4.0), (1.2 * open_, 10.0 * j[6]), 0.0)
        horn = ellipse(s, up, (31.0 * j[3], 32.0), (1.2 * open_, 5.0 * j[1]), 0.5)
    else:
        length = 34.0 * j[9]
        middle = 7.0 * j[10] + 0.009 * j[11] * (up + 6.0) ** 2 * torch.where(up > 0, 1.4, 0.6)
        waist = 0.45 + 0.55 * ((up - 2.0) / 20.0).abs().clamp(max=1.0)
        round_ = (1.0 - (up / length) ** 2).clamp(min=-1.0)
        fluid = cover((open_ * 3.6 * waist * round_ - (s - middle).abs()) * mm)
        slit = ellipse(s, up, (0.0, 8.0), (1.1 * open_, 11.0 * j[6]), 0.0)
        horn = ellipse(s, up, (20.0 * j[3], 34.0), (2.0 * open_, 7.0 * j[1]), -0.4)
    fluid = torch.maximum(fluid, torch.maximum(cover(slit * mm), cover(horn * mm)))
    paint(image, fluid, grey["fluid"])


def cerebellum(
    rng: torch.Generator, image: Tensor, side: Tensor, up: Tensor, mm: float, grey: dict[str, float]
) -> None:
    """Two lobes with fine, nearly parallel folia and a branching white core, painted in place."""
    size = image.shape[-1]
    centre = (uniform(rng, 14.0, 22.0), uniform(rng, 42.0, 55.0))
    depth = ellipse(side.abs(), up, centre, (uniform(rng, 26.0, 34.0), uniform(rng, 18.0, 26.0)), 0.2)
    depth = depth + 1.2 * smooth_field(rng, (size, size), 5.0)
    wave = depth / uniform(rng, 3.4, 5.0) + 0.55 * band_field(rng, size, 22.0 * mm, 0.4)
    folia = torch.sin(2 * math.pi * wave)
    paint(image, cover((depth + 1.5) * mm), grey["fluid"])
    paint(image, cover(depth * mm), grey["grey"])
    paint(image, cover(depth * mm) * cover(folia - 0.7, 0.6), grey["fluid"])
    core = cover((depth - 7.0 - 3.0 * folia + 3.0 * smooth_field(rng, (size, size), 6.0)) * mm, 1.5)
    paint(image, core, grey["white"])


def head_phantom(rng: torch.Generator, size: int = 256) -> Tensor:
    """A slice of a head, as magnetic resonance shows it: float32 magnitude (size, size) in [0, 1.2].

    Axial or coronal, in a random contrast (T1, T2, proton density, FLAIR, or none of them), with scalp,
    skull, fluid, folded cortex, ventricles, nuclei, vessels, sometimes lesions, cerebellum and soft tissue, a
    smooth warp, a bias field and a random resolution.
    """
    return finish(rng, head_slice(rng, size, contrast(rng)))


def head_slice(rng: torch.Generator, size: int, grey: dict[str, float]) -> Tensor:
    """A head in given grey values (see `invdiff.datasets.phantoms.tissue.contrast`), before the scanner."""
    coronal = choose(rng, 0.4)
    x, y = grid(size)
    fill = 0.98 - 0.38 * uniform(rng) ** 1.5
    offset = 0.4 * (1.0 - fill) + 0.02
    if choose(rng, 0.12):  # part of the head only
        fill, offset = uniform(rng, 1.1, 1.8), 0.35
    mm = fill * size / 190.0
    turn = uniform(rng, -0.25, 0.25) + (0.5 * math.pi * int(uniform(rng, 0, 4)) if choose(rng, 0.3) else 0.0)
    px = (x - uniform(rng, -offset, offset) * size) / mm
    py = (y - uniform(rng, -offset, offset) * size) / mm
    warp = uniform(rng, 1.0, 3.5)
    px = px + warp * smooth_field(rng, (size, size), 2.5)
    py = py + warp * smooth_field(rng, (size, size), 2.5)
    side = math.cos(turn) * px + math.sin(turn) * py  # millimetres, left to right
    up = math.cos(turn) * py - math.sin(turn) * px  # millimetres, front to back, or top to bottom
    half_up = 92.0
    half_side = half_up * uniform(rng, 0.68, 0.92)
    power = uniform(rng, 1.9, 2.5)
    r = ((side / half_side).abs() ** power + (up / half_up).abs() ** power) ** (1.0 / power)
    depth = (1.0 - r) * torch.sqrt(side**2 + up**2) / r.clamp(min=0.05)  # along the ray, millimetres
    depth = torch.where(r < 0.05, half_side, depth)
    stripped = choose(rng, 0.12)

    def layer(low: float, high: float, wobble: float = 0.3) -> Tensor:
        return uniform(rng, low, high) * torch.exp(wobble * smooth_field(rng, (size, size), 4.0))

    image = torch.zeros(size, size)
    soft = 0.8 + 2.2 * uniform(rng) ** 1.5
    skin, fat, muscle = layer(0.8, 2.0), layer(1.0, 6.0), layer(0.2, 2.0, 0.8).clamp(max=6.0)
    table, marrow, inner = layer(1.2, 2.5), layer(0.2, 5.0, 0.6), layer(1.2, 2.5)
    edge = depth
    layers = (("skin", skin), ("fat", fat), ("muscle", muscle), ("bone", table), ("marrow", marrow))
    for name, thickness in (*layers, ("bone", inner)):
        if not stripped:
            paint(image, cover(edge * mm, soft), grey[name])
        edge = edge - thickness
    inside = edge * mm
    if not stripped:
        paint(image, cover(inside, soft), grey["fluid"])
    inside = inside - layer(0.3, 3.5, 0.5) * mm
    brain = cover(inside, soft)
    low_part = coronal or choose(rng, 0.2)
    if low_part:  # the brain ends above the neck, or behind the face
        floor = uniform(rng, 38.0, 60.0) if coronal else uniform(rng, 30.0, 60.0)
        limit = (floor - (up if coronal else -up)) + 7.0 * smooth_field(rng, (size, size), 4.0)
        limit = limit - uniform(rng, 0.0, 14.0) * torch.exp(-((side / 16.0) ** 2))
        inside = torch.minimum(inside, limit * mm)
        brain = cover(inside, soft)

    fluid = cortex(rng, size, mm, inside, side, up, coronal)
    thick = layer(2.0, 3.8, 0.35) * mm
    # The slice is thick: where tissue borders run oblique to it, they are blurred.
    blur = 1.0 + uniform(rng, 0.0, 2.5) * mm * torch.exp(0.8 * smooth_field(rng, (size, size), 6.0))
    white = cover(fluid - thick, blur)
    matter = torch.where(inside > 2.0 * mm, grey["sulcus"], grey["fluid"])
    paint(matter, cover(fluid, 0.5 * (soft + blur)), grey["grey"])
    paint(matter, white, grey["white"])
    if not choose(rng, 0.2):
        deep_structures(rng, matter, side, up, mm, coronal, grey)
    if choose(rng, 0.25):
        cerebellum(rng, matter, side, up, mm, grey)
    vessels_and_lesions(rng, matter, brain, mm, grey)
    matter.mul_(1.0 + grey["vary"] * uniform(rng, 0.0, 0.06) * band_field(rng, size, uniform(rng, 3.0, 14.0), 0.6))
    if low_part and not stripped:
        other = soft_tissue(rng, size, mm, grey)
        paint(image, cover((edge + 4.0) * mm) * cover(-inside) * cover(-(limit - 3.0) * mm, 3.0), other)
    paint(image, brain, matter)
    return image
