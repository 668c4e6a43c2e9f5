"""Procedural slices of limbs, joints and trunks: nested smooth shapes with the textures of their tissues."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.datasets.phantoms.fields import band_field, choose, cover, grid, line_distance, smooth_field, uniform
from invdiff.datasets.phantoms.tissue import contrast, finish, paint, vessels_and_lesions

__all__ = ["body_phantom", "body_slice", "bone", "contour", "muscles"]


def contour(
    rng: torch.Generator,
    x: Tensor,
    y: Tensor,
    centre: tuple[float, float],
    radius: float,
    rough: float = 0.15,
) -> Tensor:
    """Approximate depth inside a smooth closed random contour, in the unit of x and y.

    Fourier descriptors: r(angle) = radius (1 + sum_k a_k cos(k angle + p_k)) for k = 2 ... 7, with a_k
    uniform within +-rough / (k - 1)^1.2 and p_k uniform.
    """
    dx, dy = x - centre[0], y - centre[1]
    distance = torch.sqrt(dx**2 + dy**2)
    unit = torch.complex(dx, dy)
    unit = unit / distance.clamp(min=1e-3)
    edge = torch.ones_like(distance)
    power = unit.clone()
    for k in range(2, 8):
        power = power * unit
        amplitude, angle = rough * uniform(rng, -1.0, 1.0) / (k - 1) ** 1.2, uniform(rng, 0.0, 2.0 * math.pi)
        edge = edge + amplitude * (math.cos(angle) * power.real - math.sin(angle) * power.imag)
    return radius * edge.clamp(min=0.2) - distance


def bone(
    rng: torch.Generator, image: Tensor, depth: Tensor, grey: dict[str, float], rim: float, trabecular: Tensor
) -> None:
    """Dark compact rim, bright marrow with trabecular texture; ``depth`` and ``rim`` in pixels; in place."""
    paint(image, cover(depth, uniform(rng, 0.8, 1.5)), grey["bone"])
    marrow = grey["marrow"] * (1.0 + 0.15 * uniform(rng) ** 2 * trabecular)
    paint(image, cover(depth - rim, uniform(rng, 0.8, 2.0)), marrow)


def muscles(rng: torch.Generator, size: int, scale: float, grey: dict[str, float]) -> Tensor:
    """Muscle bellies divided by thin fat planes, with striations along a slowly turning direction."""
    planes, _ = line_distance(band_field(rng, size, uniform(rng, 0.25, 0.7) * scale, 0.4))
    image = torch.full((size, size), grey["muscle"])
    image = image * (1.0 + 0.08 * grey["vary"] * smooth_field(rng, (size, size), 5.0))
    x, y = grid(size)
    angle = uniform(rng, 0.0, math.pi)
    along = math.cos(angle) * x + math.sin(angle) * y + 6.0 * smooth_field(rng, (size, size), 3.0)
    stripes = torch.sin(2.0 * math.pi * along / uniform(rng, 3.5, 9.0) + 1.5 * band_field(rng, size, 14.0, 0.6))
    patch = cover(3.0 * smooth_field(rng, (size, size), 4.0))
    image = image + uniform(rng, 0.0, 0.3) * (grey["fat"] - grey["muscle"]) * patch * cover(stripes - 0.5, 1.0)
    paint(image, cover(uniform(rng, 0.3, 1.2) - planes.abs()) * uniform(rng, 0.2, 1.0), grey["fat"])
    return image


def body_phantom(rng: torch.Generator, size: int = 256) -> Tensor:
    """A slice of a limb, a joint or a trunk in a random contrast: float32 magnitude (size, size) in [0, 1.2].

    Skin, fat layer, muscle compartments, bones with dark rims and trabecular marrow, organs, vessels and
    pockets of air within random smooth contours; one body or two (legs) in view, or a part of one.
    """
    return finish(rng, body_slice(rng, size, contrast(rng)))


def body_slice(rng: torch.Generator, size: int, grey: dict[str, float]) -> Tensor:
    """A limb, a joint or a trunk in given grey values (see `tissue.contrast`), before the scanner."""
    x, y = grid(size)
    warp = uniform(rng, 0.0, 0.02) * size
    px = x + warp * smooth_field(rng, (size, size), 3.0)
    py = y + warp * smooth_field(rng, (size, size), 3.0)
    image = torch.zeros(size, size)
    pair = choose(rng, 0.15)
    trunk = not pair and choose(rng, 0.4)
    part = choose(rng, 0.25)
    for k in range(2 if pair else 1):
        radius = (uniform(rng, 0.55, 0.9) if part else uniform(rng, 0.32, 0.47)) * size * (0.5 if pair else 1.0)
        shift = 0.5 * size if part else 0.08 * size
        centre = (uniform(rng, -shift, shift) + (0.5 * k - 0.25) * size * pair, uniform(rng, -shift, shift))
        flat = uniform(rng, 1.0, 1.6)  # wider than high, or the other way round
        wide, high = (px, (py - centre[1]) * flat + centre[1])
        if choose(rng, 0.3):
            wide, high = ((px - centre[0]) * flat + centre[0], py)
        depth = contour(rng, wide, high, centre, radius, 0.12)
        fat = radius * uniform(rng, 0.02, 0.3) * torch.exp(0.3 * smooth_field(rng, (size, size), 3.0))
        paint(image, cover(depth, uniform(rng, 0.8, 1.6)), grey["skin"])
        septa, _ = line_distance(band_field(rng, size, uniform(rng, 0.1, 0.4) * radius + 6.0, 0.5))
        fatty = grey["fat"] + uniform(rng, 0.0, 0.4) * (grey["skin"] - grey["fat"]) * cover(0.4 - septa.abs())
        paint(image, cover(depth - uniform(rng, 1.0, 3.0)), fatty)
        flesh = cover(depth - fat - 2.0, uniform(rng, 0.8, 2.0))
        paint(image, flesh, muscles(rng, size, radius, grey))
        if trunk:
            wall = fat + radius * uniform(rng, 0.04, 0.15)
            flesh = cover(depth - wall, 1.2)
            paint(image, flesh, grey["fat"])
            organs(rng, image, wide, high, centre, radius, flesh, grey)
        bones(rng, image, wide, high, centre, radius, flesh, grey, joint=not trunk and choose(rng, 0.4))
        vessels_and_lesions(rng, image, flesh, radius / 90.0, grey)
    return image * (1.0 + grey["vary"] * uniform(rng, 0.0, 0.05) * band_field(rng, size, uniform(rng, 3.0, 14.0), 0.6))


def organs(
    rng: torch.Generator,
    image: Tensor,
    x: Tensor,
    y: Tensor,
    centre: tuple[float, float],
    radius: float,
    region: Tensor,
    grey: dict[str, float],
) -> None:
    """Soft organs, gut with walls and air, within a cavity; painted in place."""
    tones = (grey["muscle"], grey["grey"], grey["white"], grey["fluid"], grey["skin"])
    for _ in range(int(uniform(rng, 4, 14))):
        angle, away = uniform(rng, 0.0, 2.0 * math.pi), radius * 0.8 * math.sqrt(uniform(rng))
        at = (centre[0] + away * math.cos(angle), centre[1] + away * math.sin(angle))
        depth = contour(rng, x, y, at, radius * uniform(rng, 0.07, 0.4), 0.3)
        tone = tones[int(uniform(rng, 0, len(tones)))] * (1.0 + grey["vary"] * uniform(rng, -0.2, 0.2))
        paint(image, cover(depth + 1.5) * region, grey["fat"] * uniform(rng, 0.2, 1.0))
        paint(image, cover(depth, uniform(rng, 0.8, 2.5)) * region, tone)
        kind = uniform(rng)
        if kind < 0.25:  # hollow: wall, content
            wall = uniform(rng, 1.5, 5.0)
            content = 0.01 if choose(rng, 0.5) else grey["fluid"]
            paint(image, cover(depth - wall) * region, content)
        elif kind < 0.55:  # texture: ducts or lobules
            lines, _ = line_distance(band_field(rng, image.shape[-1], uniform(rng, 8.0, 24.0), 0.5))
            tint = tone * (1.0 + grey["vary"] * uniform(rng, -0.5, 0.6))
            paint(image, cover(0.6 - lines.abs()) * cover(depth - 2.0) * region, tint)


def bones(
    rng: torch.Generator,
    image: Tensor,
    x: Tensor,
    y: Tensor,
    centre: tuple[float, float],
    radius: float,
    region: Tensor,
    grey: dict[str, float],
    joint: bool,
) -> None:
    """One to three round bones, or a joint (two large bones face to face across cartilage); in place."""
    size = image.shape[-1]
    trabecular = band_field(rng, size, uniform(rng, 2.5, 5.0), 0.6)
    if not joint:
        for _ in range(1 + int(uniform(rng, 0, 3))):
            angle, away = uniform(rng, 0.0, 2.0 * math.pi), radius * uniform(rng, 0.0, 0.55)
            at = (centre[0] + away * math.cos(angle), centre[1] + away * math.sin(angle))
            depth = contour(rng, x, y, at, radius * uniform(rng, 0.08, 0.28), 0.2)
            depth = torch.minimum(depth, (region - 0.5) * 1e3)
            bone(rng, image, depth, grey, uniform(rng, 0.8, 6.0), trabecular)
        return
    turn = uniform(rng, 0.0, 2.0 * math.pi)
    c, s = math.cos(turn), math.sin(turn)
    u = c * (x - centre[0]) + s * (y - centre[1])
    v = c * (y - centre[1]) - s * (x - centre[0])
    face = v + 0.06 * radius * smooth_field(rng, (size, size), 3.0) + uniform(rng, -0.2, 0.2) * radius
    face = face + uniform(rng, -0.4, 0.4) * u.abs()
    gap = uniform(rng, 0.01, 0.05) * radius
    width = radius * (uniform(rng, 0.4, 0.6) - 0.25 * (v.abs() / radius).clamp(max=1.0))
    shaft = width + 0.05 * radius * smooth_field(rng, (size, size), 4.0) - u.abs()
    cartilage = uniform(rng, 0.01, 0.05) * radius
    paint(image, cover(torch.minimum(shaft, 0.15 * radius - face.abs())) * region, grey["fluid"])
    for sign in (1.0, -1.0):
        depth = torch.minimum(shaft, sign * face - gap)
        depth = torch.minimum(depth, (region - 0.5) * 1e3)
        paint(image, cover(torch.minimum(depth + cartilage, 0.2 * radius - face.abs())), grey["grey"])
        bone(rng, image, depth, grey, uniform(rng, 0.8, 2.5), trabecular)
