"""Procedural slices of heads, necks, trunks and limbs as computed tomography shows them.

Values are attenuation with air 0 and water `WATER`, that is ``WATER (1 + HU/1000)``, so that the densest bone is about
as large as the brightest tissue of the other phantoms. Tissues have the usual Hounsfield units (fat -115 to -70, muscle
35 to 75, brain 24 to 46, compact bone 700 to 2000, lung -920 to -700, contrast agent up to 500).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.datasets.phantoms.body import body_slice, bone, contour, muscles, organs
from invdiff.datasets.phantoms.fields import band_field, choose, cover, grid, line_distance, smooth_field, uniform
from invdiff.datasets.phantoms.head import head_slice
from invdiff.datasets.phantoms.tissue import paint, spot, vessels_and_lesions

__all__ = ["WATER", "ct_slice", "from_hounsfield"]

WATER = 0.4
_FINEST = 256  # pixels across at which slices are drawn; smaller ones are averages of these, as thick pixels are


def from_hounsfield(hu: float) -> float:
    """Value of Hounsfield units in these images."""
    return WATER * (1 + hu / 1000)


def ct_slice(rng: torch.Generator, size: int = 256) -> Tensor:
    """A slice of a head, a neck, a chest, an abdomen or a limb: float32 (size, size), water 0.4, air 0.

    With a couch or a head rest below it in most, the resolution of a smooth or a sharp kernel, and no metal.
    """
    fine = max(size, _FINEST // size * size)
    grey = attenuation(rng)
    kind = uniform(rng)
    if kind < 0.25:
        image = head_slice(rng, fine, grey)
    elif kind < 0.5:
        image = neck_slice(rng, fine, grey)
    elif kind < 0.8:
        image = trunk_slice(rng, fine, grey)
    else:
        image = body_slice(rng, fine, grey)
    if choose(rng, 0.7):
        couch(rng, image)
    image = kernel(rng, image)
    if fine > size:
        image = torch.nn.functional.avg_pool2d(image[None, None], fine // size)[0, 0]
    return image


def attenuation(rng: torch.Generator) -> dict[str, float]:
    """Values by tissue, and of what may be enhanced by contrast agent or calcified."""
    agent = choose(rng, 0.4)
    hu = {
        "skin": uniform(rng, -20, 70),
        "fat": uniform(rng, -115, -70),
        "muscle": uniform(rng, 35, 75),
        "bone": uniform(rng, 700, 2000),
        "marrow": uniform(rng, 100, 700) if choose(rng, 0.75) else uniform(rng, -80, 100),
        "fluid": uniform(rng, -5, 22),
        "grey": uniform(rng, 34, 46) + 8 * agent,
        "white": uniform(rng, 24, 34) + 4 * agent,
        "vessel": uniform(rng, 80, 500) if agent else uniform(rng, 35, 65),
        "lesion": uniform(rng, 200, 1200) if choose(rng, 0.3) else uniform(rng, -40, 110),
        "lung": uniform(rng, -920, -700),
    }
    hu["sulcus"] = hu["grey"] + uniform(rng, 0.2, 1.0) * (hu["fluid"] - hu["grey"])
    grey = {name: from_hounsfield(value) for name, value in hu.items()}
    grey["vary"] = 0.02 + 0.25 * uniform(rng) ** 2
    return grey


def capsule(x: Tensor, y: Tensor, start: tuple[float, float], end: tuple[float, float], width: float) -> Tensor:
    """Depth inside all that lies within `width` of a segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = (((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-6)).clamp(0, 1)
    return width - torch.sqrt((x - start[0] - along * dx) ** 2 + (y - start[1] - along * dy) ** 2)


def vertebra(
    rng: torch.Generator, image: Tensor, x: Tensor, y: Tensor, at: tuple[float, float], radius: float,
    grey: dict[str, float],
) -> None:  # fmt: skip
    """Body, canal with its ring, and processes that reach back (towards +y) and aside; painted in place."""
    trabecular = band_field(rng, image.shape[-1], uniform(rng, 2.5, 5.0), 0.6)
    rim = radius * uniform(rng, 0.06, 0.2)
    hollow = radius * uniform(rng, 0.35, 0.7)
    back = (at[0], at[1] + radius + 0.7 * hollow)
    tip = (at[0] + uniform(rng, -0.2, 0.2) * radius, back[1] + radius * uniform(rng, 0.8, 2.2))
    depth = torch.maximum(
        contour(rng, x, y * uniform(rng, 1.0, 1.3), (at[0], at[1]), radius, 0.12),
        capsule(x, y, back, tip, radius * uniform(rng, 0.12, 0.3)),
    )
    for side in (-1, 1):
        reach = (at[0] + side * radius * uniform(rng, 1.2, 2.0), back[1] + radius * uniform(rng, -0.6, 0.4))
        depth = torch.maximum(depth, capsule(x, y, back, reach, radius * uniform(rng, 0.15, 0.35)))
    ring = contour(rng, x, y, back, hollow * uniform(rng, 1.2, 1.6), 0.1)
    bone(rng, image, torch.maximum(depth, ring), grey, rim, trabecular)
    canal = contour(rng, x, y, back, hollow, 0.1)
    paint(image, cover(canal), grey["fluid"])
    paint(image, cover(canal - 0.3 * hollow), grey["white"])


def neck_slice(rng: torch.Generator, size: int, grey: dict[str, float]) -> Tensor:
    """A face, a jaw or a neck: spine behind, airways and sinuses with thin bony walls, a jaw with its teeth."""
    x, y = grid(size)
    px = x + 0.015 * size * smooth_field(rng, (size, size), 3.0)
    py = y + 0.015 * size * smooth_field(rng, (size, size), 3.0)
    radius = uniform(rng, 0.28, 0.46) * size
    centre = (uniform(rng, -0.06, 0.06) * size, uniform(rng, -0.06, 0.06) * size)
    image = torch.zeros(size, size)
    outline = contour(rng, px * uniform(rng, 0.9, 1.25), py, centre, radius, 0.1)
    soft = uniform(rng, 0.8, 2.0)
    paint(image, cover(outline, soft), grey["skin"])
    paint(image, cover(outline - 0.02 * radius), grey["fat"])
    flesh = cover(outline - radius * uniform(rng, 0.03, 0.12), soft)
    paint(image, flesh, muscles(rng, size, radius, grey))
    front, behind = centre[1] - 0.55 * radius, centre[1] + 0.3 * radius
    for _ in range(int(uniform(rng, 0, 12))):  # muscles, glands and fat between them
        at = (centre[0] + radius * uniform(rng, -0.7, 0.7), centre[1] + radius * uniform(rng, -0.7, 0.7))
        tone = grey[("fat", "muscle", "skin", "fluid")[int(uniform(rng, 0, 4))]]
        paint(image, cover(contour(rng, px, py, at, radius * uniform(rng, 0.06, 0.25), 0.3)) * flesh, tone)
    if choose(rng, 0.85):
        at = (centre[0], behind - radius * uniform(rng, 0.0, 0.3))
        vertebra(rng, image, px, py, at, radius * uniform(rng, 0.13, 0.25), grey)
    trabecular = band_field(rng, size, uniform(rng, 2.5, 5.0), 0.6)
    if choose(rng, 0.7):  # an arch open to the back
        wide, top = radius * uniform(rng, 0.35, 0.65), front - radius * uniform(rng, -0.2, 0.3)
        bend = uniform(rng, 1.2, 3.0) / radius
        arch = py - top - bend * (px - centre[0]) ** 2
        slope = torch.sqrt(1 + (2 * bend * (px - centre[0])) ** 2)
        thick = radius * uniform(rng, 0.04, 0.11)
        end = torch.minimum(wide - (px - centre[0]).abs(), 20 * (centre[1] + radius * uniform(rng, -0.4, 0.3) - py))
        depth = torch.minimum(thick - (arch / slope).abs(), torch.minimum(end, 1e3 * (flesh - 0.5)))
        bone(rng, image, depth, grey, thick * uniform(rng, 0.2, 0.7), trabecular)
        if choose(rng, 0.6):
            tooth = from_hounsfield(uniform(rng, 1500, 2600))
            step = radius * uniform(rng, 0.08, 0.13)
            for k in range(-int(wide / step), int(wide / step) + 1):
                row = top + bend * (k * step) ** 2 + size // 2
                column = centre[0] + k * step + size // 2
                if choose(rng, 0.85):
                    spot(image, flesh, int(row), int(column), 0.5 * step, 1.0, tooth * uniform(rng, 0.85, 1.1))
    if choose(rng, 0.5):  # the base of the skull: a mosaic of compact bone, marrow, soft tissue and air cells
        at = (centre[0], centre[1] + radius * uniform(rng, -0.4, 0.3))
        base = cover(contour(rng, px, py, at, radius * uniform(rng, 0.35, 0.9), 0.3)) * flesh
        mosaic, _ = line_distance(band_field(rng, size, radius * uniform(rng, 0.2, 0.6), 0.7) - uniform(rng, 0.0, 0.8))
        rim = uniform(rng, 0.8, 3.0)
        paint(image, cover(mosaic) * base, grey["bone"])
        content = (grey["marrow"] * (1 + 0.1 * trabecular), torch.zeros(()), grey["fluid"])[int(uniform(rng, 0, 3))]
        paint(image, cover(mosaic - rim) * base, content)
    for _ in range(1 + int(uniform(rng, 0, 6))):  # airways and sinuses, some in pairs
        away = uniform(rng, 0.0, 0.45) * radius * choose(rng, 0.6)
        at_y, inner = centre[1] + radius * uniform(rng, -0.7, 0.1), radius * uniform(rng, 0.04, 0.22)
        wall = inner * uniform(rng, 0.05, 0.4) if choose(rng, 0.6) else 0.0
        for side in (-1, 1) if away > inner else (1,):
            hole = contour(rng, px, py, (centre[0] + side * away, at_y), inner, 0.3)
            paint(image, cover(hole + wall) * flesh, grey["bone"] if wall else grey["skin"])
            paint(image, cover(hole) * flesh, from_hounsfield(-1000))
            if choose(rng, 0.5):  # thin leaves of bone or mucosa within
                leaf, _ = line_distance(band_field(rng, size, inner * uniform(rng, 0.5, 1.5), 0.5))
                leaves = cover(uniform(rng, 0.2, 0.8) - leaf.abs()) * cover(hole)
                paint(image, leaves, grey["bone"] * uniform(rng, 0.4, 1.0))
    vessels_and_lesions(rng, image, flesh, radius / 90.0, grey)
    return image


def trunk_slice(rng: torch.Generator, size: int, grey: dict[str, float]) -> Tensor:
    """A chest (lungs, heart, ribs) or an abdomen (organs, gut) around a spine; arms beside it in some."""
    x, y = grid(size)
    px = x + 0.015 * size * smooth_field(rng, (size, size), 3.0)
    py = y + 0.015 * size * smooth_field(rng, (size, size), 3.0)
    radius, flat = uniform(rng, 0.36, 0.47) * size, uniform(rng, 1.2, 1.6)
    high = radius / flat
    image = torch.zeros(size, size)
    outline = contour(rng, px, py * flat, (0.0, 0.0), radius, 0.06) / math.sqrt(flat)
    soft = uniform(rng, 0.8, 1.6)
    fat = radius * uniform(rng, 0.02, 0.15)
    wall = fat + radius * uniform(rng, 0.05, 0.14)
    paint(image, cover(outline, soft), grey["skin"])
    paint(image, cover(outline - 1.5), grey["fat"])
    paint(image, cover(outline - fat, soft), muscles(rng, size, radius, grey))
    within = cover(outline - wall, soft)
    paint(image, within, grey["fat"])
    trabecular = band_field(rng, size, uniform(rng, 2.5, 5.0), 0.6)
    for k in range(int(uniform(rng, 6, 26))):  # ribs: short arcs in the wall
        angle, long = 2 * math.pi * k / 26 + uniform(rng, -0.1, 0.1), radius * uniform(rng, 0.03, 0.14)
        away = radius - wall + 0.02 * radius
        at = (away * math.cos(angle), away * math.sin(angle) / flat)
        turn = math.atan2(math.cos(angle) / flat, -math.sin(angle))
        ends = [(at[0] + s * long * math.cos(turn), at[1] + s * long * math.sin(turn)) for s in (-1, 1)]
        rib = capsule(px, py, ends[0], ends[1], radius * uniform(rng, 0.015, 0.035))
        bone(rng, image, rib, grey, 0.01 * radius, trabecular)
    if choose(rng, 0.5):
        vessel, _ = line_distance(band_field(rng, size, radius * uniform(rng, 0.08, 0.25), 0.6))
        for side in (-1, 1):
            at = (side * radius * uniform(rng, 0.38, 0.5), high * uniform(rng, -0.15, 0.15))
            lung = contour(rng, px, py * uniform(rng, 0.7, 1.0), at, radius * uniform(rng, 0.25, 0.42), 0.15)
            inside = cover(torch.minimum(lung, outline - wall), soft)
            hazy = grey["lung"] * (1 + uniform(rng, 0.0, 0.4) * smooth_field(rng, (size, size), 4.0)).clamp(min=0.1)
            paint(image, inside, hazy)
            branch = cover(uniform(rng, 0.2, 1.0) - vessel.abs()) * cover(smooth_field(rng, (size, size), 6.0) * 4)
            paint(image, inside * branch, grey["vessel"] * uniform(rng, 0.5, 1.0))
            for _ in range(int(uniform(rng, 0, 25))):
                row, column = (int(uniform(rng, 0, size)) for _ in range(2))
                spot(image, inside, row, column, uniform(rng, 0.5, 3.5), 1.0, grey["vessel"])
        heart = contour(rng, px, py, (radius * uniform(rng, -0.1, 0.25), -high * uniform(rng, 0.0, 0.3)),
                        radius * uniform(rng, 0.1, 0.35), 0.2)  # fmt: skip
        paint(image, cover(heart) * within, grey["muscle"])
        paint(image, cover(heart - 0.1 * radius) * within, grey["vessel"])
    else:
        organs(rng, image, px, py * flat, (0.0, 0.0), radius, within, grey)
    spine = (uniform(rng, -0.03, 0.03) * radius, high * uniform(rng, 0.3, 0.55))
    vertebra(rng, image, px, py, spine, radius * uniform(rng, 0.09, 0.15), grey)
    for _ in range(int(uniform(rng, 0, 4))):  # great vessels before the spine
        at = (spine[0] + radius * uniform(rng, -0.2, 0.2), spine[1] - radius * uniform(rng, 0.15, 0.4))
        paint(image, cover(contour(rng, px, py, at, radius * uniform(rng, 0.03, 0.08), 0.05)), grey["vessel"])
    vessels_and_lesions(rng, image, within, radius / 120.0, grey)
    return image


def couch(rng: torch.Generator, image: Tensor) -> None:
    """A curved shell filled with foam below, and padding, where there is air; in place."""
    size = image.shape[-1]
    x, y = grid(size)
    bend = uniform(rng, -0.5, 1.0) / size
    below = y + bend * (x - uniform(rng, -0.1, 0.1) * size) ** 2 - uniform(rng, 0.2, 0.48) * size
    thick = size * uniform(rng, 0.01, 0.1)
    air = cover((from_hounsfield(-800) - image) * 100.0)
    inside = torch.minimum(below, thick - below)
    shell = uniform(rng, 0.4, 2.0)
    paint(image, cover(inside) * air, from_hounsfield(uniform(rng, -950, -300)))
    paint(image, cover(inside - shell) * air, from_hounsfield(uniform(rng, -1000, -900)))
    if choose(rng, 0.4):  # blankets and cushions
        cloth = cover(4.0 * (smooth_field(rng, (size, size), 3.0) - 0.8)) * air
        paint(image, cloth, from_hounsfield(uniform(rng, -1000, -850)))


def kernel(rng: torch.Generator, image: Tensor) -> Tensor:
    """The resolution of a reconstruction kernel: a cosine edge, round, that ends between 0.25 and 0.7 a pixel."""
    size = image.shape[-1]
    f = torch.sqrt(torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2)
    end = uniform(rng, 0.45, 0.75) if choose(rng, 0.5) else uniform(rng, 0.25, 0.45)
    start = end * uniform(rng, 0.1, 0.8)
    ramp = ((f - start) / (end - start)).clamp(0.0, 1.0)
    return torch.fft.irfft2(torch.fft.rfft2(image) * (0.5 + 0.5 * torch.cos(math.pi * ramp)), s=(size, size))
