"""Procedural textures of the sample street: float32 images (H, W, 3) in sRGB, 0 to 1. Sizes are in metres."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from splatdag.samples.textures import (
    INKS,
    Canvas,
    Colour,
    Shape,
    bricks,
    filled,
    glaze,
    grained,
    noise,
    pick,
    plaster,
    poster,
    solid_noise,
    sphere_points,
)

TEXEL = 0.04
"""Metres of a texel of roads and buildings."""
ASPHALT, PAINT = (0.33, 0.33, 0.34), (0.86, 0.86, 0.83)
KERBS: tuple[Colour, ...] = ((0.60, 0.59, 0.56), (0.55, 0.54, 0.52), (0.65, 0.64, 0.60))
WALLS: tuple[Colour, ...] = (
    (0.72, 0.66, 0.55), (0.62, 0.68, 0.70), (0.78, 0.74, 0.68), (0.60, 0.45, 0.38), (0.66, 0.70, 0.58),
    (0.74, 0.60, 0.48), (0.52, 0.55, 0.62),
)  # fmt: skip
LEAVES = ((0.22, 0.34, 0.14), (0.36, 0.46, 0.18), (0.16, 0.25, 0.12), (0.46, 0.52, 0.24))
CLOTH: tuple[Colour, ...] = (*INKS, (0.80, 0.78, 0.74), (0.12, 0.13, 0.16))


def _shape(width: float, height: float, texel: float = TEXEL) -> Shape:
    return round(height / texel), round(width / texel)


def _asphalt(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Wear over a drawn road: stains, patches of fresh tar and grit."""
    shape = image.shape[:2]
    image = grained(image, noise(rng, shape, 90, 4), 0.10)
    image = grained(image, noise(rng, shape, 5, 3), 0.09)
    for _ in range(shape[0] * shape[1] // 40_000):
        y, x = (int(rng.integers(0, size)) for size in shape)
        h, w = (int(v) for v in rng.integers(8, 70, 2))
        image[y : y + h, x : x + w] *= rng.uniform(0.72, 1.15)
    return np.clip(image, 0.01, 1)


def road(rng: Generator, lanes: tuple[float, ...], half: float, length: float) -> np.ndarray:
    """A piece of road, v along it: a double line in the middle, dashes between lanes, worn wheel tracks.

    `lanes` are the distances of the dashed lines from the middle; `half` is half the width.
    """
    shape = _shape(2 * half, length)
    canvas, scale = Canvas(shape, ASPHALT), 1 / TEXEL
    for x in (-0.18, 0.08):
        canvas.rectangle((half + x) * scale, 0, 0.10 * scale, shape[0], (0.80, 0.66, 0.24))
    for line in lanes:
        for side in (-line, line):
            for y in np.arange(0, length, 6.0):
                canvas.rectangle((half + side - 0.06) * scale, y * scale, 0.12 * scale, 2.4 * scale, PAINT)
    for _ in range(int(length / 4)):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        canvas.ellipse(x, y, rng.uniform(3, 12), rng.uniform(3, 12), 0, (0.22, 0.22, 0.23))
    return _asphalt(rng, canvas.pixels())


def crossing(rng: Generator, half: float) -> np.ndarray:
    """A square crossing with zebra stripes along its four sides."""
    canvas, scale, edge = Canvas(_shape(2 * half, 2 * half), ASPHALT), 1 / TEXEL, 2 * half
    for at in np.arange(0.6, edge - 0.6, 1.0):
        for near in (0.4, edge - 2.9):
            canvas.rectangle(at * scale, near * scale, 0.45 * scale, 2.5 * scale, PAINT)
            canvas.rectangle(near * scale, at * scale, 2.5 * scale, 0.45 * scale, PAINT)
    return _asphalt(rng, canvas.pixels())


def slabs(rng: Generator, width: float, height: float) -> np.ndarray:
    """A pavement of concrete slabs, each of its own grey."""
    canvas, scale = Canvas(_shape(width, height), (0.42, 0.41, 0.39)), 1 / TEXEL
    for y in np.arange(0, height, 1.2):
        for x in np.arange(0, width, 1.2):
            canvas.rectangle(x * scale + 0.7, y * scale + 0.7, 28.6, 28.6, pick(rng, KERBS, 0.008))
    image = canvas.pixels()
    return grained(grained(image, noise(rng, image.shape[:2], 8, 3), 0.06), noise(rng, image.shape[:2], 80, 4), 0.07)


def lawn(rng: Generator) -> np.ndarray:
    """Dry grass and earth, 40 m square."""
    shape = (500, 500)
    earth, grass = np.array((0.48, 0.42, 0.31)), np.array((0.33, 0.40, 0.20))
    mix = np.clip(0.5 + 0.4 * noise(rng, shape, 60, 5), 0, 1)[..., None]
    return grained((earth * (1 - mix) + grass * mix).astype(np.float32), noise(rng, shape, 6, 3), 0.16)


def facade(rng: Generator, width: float, storeys: int, storey: float) -> np.ndarray:
    """The front of a house: a shop on the ground floor, rows of windows above, cornices between."""
    height = storeys * storey
    shape, scale = _shape(width, height), 1 / TEXEL
    ground = pick(rng, WALLS, 0.02)
    image = bricks(rng, shape, (6, 16)) if rng.random() < 0.3 else plaster(rng, shape, ground, 0.09)
    canvas = Canvas(shape, ground)
    trim = pick(rng, ((0.85, 0.83, 0.78), (0.30, 0.28, 0.27), (0.48, 0.38, 0.30)), 0.04)
    bay = width / max(round(width / rng.uniform(2.4, 3.6)), 1)
    wide, tall = bay * rng.uniform(0.45, 0.65), storey * rng.uniform(0.5, 0.62)
    painted = Canvas(shape, (0.0, 0.0, 0.0))
    for floor in range(1, storeys):
        for x in np.arange(bay / 2, width, bay):
            top = height - (floor + 1) * storey + 0.22 * storey
            _window(rng, (canvas, painted), (x - wide / 2) * scale, top * scale, wide * scale, tall * scale, trim)
        for each in (canvas, painted):
            colour = trim if each is canvas else (1.0, 1.0, 1.0)
            each.rectangle(0, (height - floor * storey - 0.12) * scale, shape[1], 0.2 * scale, colour)
    x = 0.3
    while x < width - 1.5:
        shop = min(rng.uniform(2.5, 5.5), width - 0.3 - x)
        top = height - 0.86 * storey
        _window(rng, (canvas, painted), x * scale, top * scale, shop * scale, 0.72 * storey * scale, trim)
        for each in (canvas, painted):
            colour = pick(rng, INKS) if each is canvas else (1.0, 1.0, 1.0)
            each.rectangle(x * scale, (top - 0.3) * scale, shop * scale, 0.55 * scale, colour)
        x += shop + rng.uniform(0.4, 1.2)
    mask = painted.pixels()[..., :1]
    image = image * (1 - mask) + canvas.pixels() * mask
    return grained(image.astype(np.float32), noise(rng, shape, 70, 4), 0.05)


def _window(
    rng: Generator, canvases: tuple[Canvas, Canvas], x: float, y: float, w: float, h: float, trim: Colour
) -> None:
    """Frame, panes with a curtain or what they mirror, and a bar; the second canvas is the mask."""
    canvas, mask = canvases
    edge = 0.07 / TEXEL
    mask.rectangle(x - edge, y - edge, w + 2 * edge, h + 2 * edge, (1.0, 1.0, 1.0))
    canvas.rectangle(x - edge, y - edge, w + 2 * edge, h + 2 * edge, trim)
    canvas.rectangle(x, y, w, h, pick(rng, ((0.16, 0.20, 0.24), (0.24, 0.29, 0.33), (0.34, 0.40, 0.45)), 0.03))
    if rng.random() < 0.6:
        share = rng.uniform(0.2, 0.8)
        canvas.rectangle(x, y, w, h * share, pick(rng, ((0.70, 0.66, 0.58), (0.55, 0.60, 0.62), *INKS[:3]), 0.05))
    canvas.rectangle(x + w * rng.uniform(0.4, 0.6), y, max(0.05 / TEXEL, 1), h, trim)


def sky(rng: Generator) -> np.ndarray:
    """The sky all round (equirectangular, zenith on top): haze, blue and clouds."""
    shape = (384, 768)
    points = sphere_points(shape)
    up = np.clip(points[..., 2:], 0, 1)
    image = np.array((0.84, 0.88, 0.92)) * (1 - up**0.5) + np.array((0.36, 0.56, 0.84)) * up**0.5
    flat = points * (1.0, 1.0, 2.2)
    flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
    clouds = np.clip(0.55 * solid_noise(rng, flat, 3.2, 6) - 0.1, 0, 0.95)[..., None]
    shade = 0.90 + 0.07 * solid_noise(rng, flat, 5.0, 3)[..., None]
    image = image * (1 - clouds) + np.clip(shade, 0, 1) * clouds
    return np.clip(image, 0, 1).astype(np.float32)


def foliage(rng: Generator) -> np.ndarray:
    return glaze(rng, (160, 320), pick(rng, ((0.15, 0.22, 0.10), (0.20, 0.24, 0.10))), LEAVES, 1500, 7)


def bark(rng: Generator) -> np.ndarray:
    return grained(filled((160, 60), (0.36, 0.29, 0.23)), noise(rng, (160, 60), 24, 5, 0.3), 0.28)


def metal(rng: Generator) -> np.ndarray:
    return plaster(rng, (120, 24), pick(rng, ((0.50, 0.52, 0.53), (0.24, 0.30, 0.27), (0.36, 0.36, 0.38))), 0.14)


def sign(rng: Generator) -> np.ndarray:
    return poster(rng, (60, 60), 7, frame=4)


def vehicle(rng: Generator, length: float, height: float, paint: Colour) -> dict[str, np.ndarray]:
    """Skins of a vehicle's lower body: side, front, back and top, with doors, wheels, lamps and plates."""
    texel = 0.02
    shape, scale = _shape(length, height, texel), 1 / texel
    dark, dim = (0.09, 0.09, 0.10), (0.72 * paint[0], 0.72 * paint[1], 0.72 * paint[2])
    side = Canvas(shape, paint)
    side.rectangle(0, 0.8 * shape[0], shape[1], 0.2 * shape[0], dark)
    side.rectangle(0, 0.42 * shape[0], shape[1], 2, dim)
    for at in (0.34, 0.53, 0.72):
        side.rectangle(at * shape[1], 0, 2, 0.8 * shape[0], dim)
    for at in (0.19, 0.81):
        x, y, r = at * shape[1], shape[0] - 0.16 * scale, 0.36 * scale
        side.ellipse(x, y, 1.15 * r, 1.15 * r, 0, dark)
        side.ellipse(x, y, r, r, 0, (0.16, 0.16, 0.17))
        side.ellipse(x, y, 0.6 * r, 0.6 * r, 0, (0.58, 0.59, 0.60))
        for turn in range(5):
            side.ellipse(x, y, 0.5 * r, 0.07 * r, turn * np.pi / 5, dark)
    end = (shape[0], round(1.8 / texel))
    skins = {"side": side}
    for name, lamp, grille in (("front", (0.92, 0.92, 0.86), dark), ("back", (0.72, 0.10, 0.10), dim)):
        face = skins[name] = Canvas(end, paint)
        face.rectangle(0, 0.76 * end[0], end[1], 0.24 * end[0], dark)
        face.rectangle(0.3 * end[1], 0.25 * end[0], 0.4 * end[1], 0.24 * end[0], grille)
        face.rectangle(0.4 * end[1], 0.52 * end[0], 0.2 * end[1], 0.15 * end[0], (0.86, 0.86, 0.84))
        for at in (0.03, 0.79):
            face.rectangle(at * end[1], 0.16 * end[0], 0.18 * end[1], 0.22 * end[0], lamp)
    top = skins["top"] = Canvas((shape[1], end[1]), paint)
    for at in (0.22, 0.78):
        top.rectangle(0.08 * end[1], at * shape[1], 0.84 * end[1], 3, dim)
    return {name: grained(c.pixels(), noise(rng, c.shape, 40, 4), 0.05) for name, c in skins.items()}


def windows(rng: Generator, length: float, height: float, paint: Colour, panes: int) -> np.ndarray:
    """Panes with pillars in the paint's colour between them, and what they mirror."""
    shape = _shape(length, height, 0.02)
    canvas, pane = Canvas(shape, paint), shape[1] / panes
    for x in np.arange(panes) * pane:
        canvas.rectangle(x + 3, 5, pane - 6, shape[0] - 8, pick(rng, ((0.12, 0.14, 0.17), (0.20, 0.24, 0.28)), 0.02))
        slope = rng.uniform(0.2, 0.7) * pane
        corners = np.array([(x + 5, 8), (x + slope, 8), (x + 0.6 * slope, shape[0] - 6), (x + 5, shape[0] - 6)])
        canvas.polygon(corners, pick(rng, ((0.42, 0.48, 0.54), (0.30, 0.36, 0.40)), 0.03))
    return grained(canvas.pixels(), noise(rng, shape, 30, 3), 0.06)


def cloth(rng: Generator, colour: Colour) -> np.ndarray:
    """Stripes or dabs on a colour."""
    shape = (60, 120)
    inks = tuple(pick(rng, CLOTH) for _ in range(2))
    if rng.random() < 0.5:
        return glaze(rng, shape, colour, inks, 60, 7)
    canvas = Canvas(shape, colour)
    for y in range(0, 60, 12):
        canvas.rectangle(0, y, 120, 5, inks[0])
    return grained(canvas.pixels(), noise(rng, shape, 10, 4), 0.1)
