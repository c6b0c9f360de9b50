"""Procedural textures of the sample room: float32 images (H, W, 3) in sRGB, 0 to 1."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Shape = tuple[int, int]

CIRCLE = np.array([(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 20, endpoint=False)])
OVERSAMPLING = 2  # shapes are drawn this much larger and box-filtered down

INKS: tuple[Colour, ...] = (
    (0.72, 0.25, 0.20),
    (0.85, 0.58, 0.22),
    (0.91, 0.83, 0.62),
    (0.35, 0.48, 0.33),
    (0.20, 0.42, 0.47),
    (0.19, 0.26, 0.42),
    (0.48, 0.27, 0.36),
    (0.23, 0.20, 0.20),
)
"""Muted print colours for posters, books and toys."""


def noise(rng: Generator, shape: Shape, cell: float, octaves: int = 5, stretch: float = 1.0) -> np.ndarray:
    """Value noise (H, W) around 0, standard deviation 1.

    The coarsest features are `cell` pixels high and `cell × stretch` wide; each octave halves them.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        rows, columns = math.ceil(shape[0] / size), math.ceil(shape[1] / size / stretch)
        lattice = Image.fromarray(rng.standard_normal((max(rows, 2), max(columns, 2)), dtype=np.float32))
        total += 0.65**octave * np.asarray(lattice.resize(shape[::-1], Image.Resampling.BICUBIC))
    return (total - total.mean()) / total.std()


def solid_noise(rng: Generator, points: np.ndarray, frequency: float, octaves: int = 5) -> np.ndarray:
    """Value noise around 0, standard deviation 1, at points (..., 3) of the unit ball: no seam, no poles."""
    total = np.zeros(points.shape[:-1])
    for octave in range(octaves):
        scale = frequency * 2**octave
        side = int(np.ceil(2 * scale)) + 2
        lattice = rng.standard_normal((side, side, side))
        position = (points + 1) * scale
        cell = np.clip(position.astype(int), 0, side - 2)
        t = position - cell
        t = t * t * (3 - 2 * t)
        value = np.zeros_like(total)
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (t[..., i] if corner[i] else 1 - t[..., i] for i in range(3))
            i, j, k = np.moveaxis(cell + corner, -1, 0)
            value += x * y * z * lattice[i, j, k]
        total += 0.6**octave * value
    return ((total - total.mean()) / total.std()).astype(np.float32)


def grained(image: np.ndarray, grain: np.ndarray, amount: float) -> np.ndarray:
    """Image with its brightness modulated by noise (H, W); `amount` is the relative standard deviation."""
    return np.clip(image * (1 + amount * grain[..., None]), 0.01, 1.0).astype(np.float32)


def filled(shape: Shape, colour: Colour) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.float32), (*shape, 3)).copy()


def pick(rng: Generator, colours: Sequence[Colour], spread: float = 0.04) -> Colour:
    """One of the colours, slightly shifted."""
    colour, shift = colours[int(len(colours) * rng.random())], (spread * rng.standard_normal(3)).tolist()
    r, g, b = (min(max(c + s, 0.02), 0.97) for c, s in zip(colour, shift, strict=True))
    return r, g, b


class Canvas:
    """An anti-aliased drawing surface whose coordinates are texels."""

    def __init__(self, shape: Shape, ground: Colour):
        self.shape = shape
        height, width = shape
        self.image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), _ink(ground))
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: np.ndarray, colour: Colour) -> None:
        """Fill a polygon with corners (N, 2) as x, y."""
        self.pen.polygon((points * OVERSAMPLING).ravel().tolist(), fill=_ink(colour))

    def rectangle(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
        self.polygon(corners, colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, turn: float, colour: Colour) -> None:
        """Fill an ellipse centred at x, y, turned by `turn` radians."""
        cos, sin = math.cos(turn), math.sin(turn)
        axes = np.array([(rx * cos, rx * sin), (-ry * sin, ry * cos)])
        self.polygon(CIRCLE @ axes + (x, y), colour)

    def pixels(self) -> np.ndarray:
        """The drawing (H, W, 3), box-filtered to its nominal size."""
        small = self.image.resize(self.shape[::-1], Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32) / 255


def _ink(colour: Colour) -> tuple[int, int, int]:
    r, g, b = (round(255 * c) for c in colour)
    return r, g, b


def plaster(rng: Generator, shape: Shape, colour: Colour, amount: float = 0.07) -> np.ndarray:
    """Painted plaster: soft stains under fine trowel marks."""
    stains = grained(filled(shape, colour), noise(rng, shape, 90, 3), 0.6 * amount)
    return grained(stains, noise(rng, shape, 14, 4), amount)


def planks(rng: Generator, shape: Shape, plank: int, colour: Colour) -> np.ndarray:
    """Boards along x, `plank` texels high, of random length and tint, with grain and dark joints."""
    height, width = shape
    canvas = Canvas(shape, (0.16, 0.11, 0.08))
    for y in range(0, height, plank):
        x = -rng.uniform(0, 3 * plank)
        while x < width:
            length = rng.uniform(4, 9) * plank
            tint = np.clip(np.array(colour) * rng.normal(1, 0.13) + rng.normal(0, 0.015, 3), 0.05, 0.95)
            canvas.rectangle(x + 0.6, y + 0.6, length - 1.2, plank - 1.6, tuple(tint))
            for _ in range(rng.integers(0, 4)):
                knot = x + rng.uniform(0.1, 0.9) * length, y + rng.uniform(0.25, 0.75) * plank
                size = rng.uniform(0.04, 0.11) * plank
                canvas.ellipse(*knot, 2 * size, size, 0, tuple(0.5 * tint))
            x += length
    grain = noise(rng, shape, max(plank / 6, 3), 4, stretch=9)
    return grained(grained(canvas.pixels(), grain, 0.10), noise(rng, shape, 12, 4, stretch=4), 0.06)


def wallpaper(rng: Generator, shape: Shape, ground: Colour, inks: Sequence[Colour], cell: int = 26) -> np.ndarray:
    """Scattered sprigs, no two alike: a stem with leaves in every cell of a jittered grid."""
    canvas = Canvas(shape, ground)
    for y in range(0, shape[0] + cell, cell):
        for x in range(0, shape[1] + cell, cell):
            root = np.array([x, y]) + rng.uniform(-0.35, 0.35, 2) * cell
            turn = rng.uniform(0, 2 * np.pi)
            along = np.array([np.cos(turn), np.sin(turn)])
            ink = pick(rng, inks)
            for step in range(rng.integers(3, 6)):
                leaf = root + along * cell * (0.17 * step - 0.3)
                lean = turn + rng.uniform(0.5, 1.1) * (1 if step % 2 else -1)
                size = cell * rng.uniform(0.10, 0.2)
                leaf = leaf + size * np.array([np.cos(lean), np.sin(lean)])
                canvas.ellipse(leaf[0], leaf[1], size, 0.42 * size, lean, ink)
            if rng.random() < 0.45:
                berry = root + along * cell * 0.42
                canvas.ellipse(berry[0], berry[1], 0.09 * cell, 0.09 * cell, 0, pick(rng, INKS[:3]))
    return grained(grained(canvas.pixels(), noise(rng, shape, 10, 4), 0.05), noise(rng, shape, 120, 3), 0.04)


def bricks(rng: Generator, shape: Shape, brick: Shape = (15, 44)) -> np.ndarray:
    """Running-bond brickwork, every brick its own tint, in light mortar."""
    height, width = brick
    canvas = Canvas(shape, (0.68, 0.63, 0.56))
    tones = ((0.58, 0.32, 0.24), (0.66, 0.40, 0.29), (0.50, 0.27, 0.22), (0.70, 0.49, 0.37))
    for row, y in enumerate(range(0, shape[0], height)):
        for x in range(-width * (row % 2) // 2, shape[1], width):
            inset = rng.uniform(0.8, 2.2, 4)
            w, h = width - inset[0] - inset[2], height - inset[1] - inset[3]
            canvas.rectangle(x + inset[0], y + inset[1], w, h, pick(rng, tones, 0.03))
    return grained(grained(canvas.pixels(), noise(rng, shape, 9, 4), 0.11), noise(rng, shape, 100, 3), 0.06)


def poster(rng: Generator, shape: Shape, count: int = 22, frame: int = 4) -> np.ndarray:
    """A framed abstract print: discs, bars, triangles and hatching in a few inks."""
    height, width = shape
    papers = ((0.90, 0.86, 0.77), (0.83, 0.80, 0.70), (0.24, 0.31, 0.40), (0.72, 0.60, 0.45))
    canvas = Canvas(shape, pick(rng, papers))
    size = min(shape)
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        a, ink, turn = size * rng.uniform(0.04, 0.24), pick(rng, INKS), rng.uniform(0, np.pi)
        match rng.integers(4):
            case 0:
                canvas.ellipse(x, y, a, a, 0, ink)
                canvas.ellipse(x, y, 0.55 * a, 0.55 * a, 0, pick(rng, INKS))
            case 1:
                canvas.polygon(np.array([x, y]) + a * rng.uniform(-1.3, 1.3, (3, 2)), ink)
            case 2:
                canvas.rectangle(x - 1.4 * a, y, 2.8 * a, 0.35 * a, ink)
            case _:
                for step in range(5):
                    offset = 0.3 * a * (step - 2)
                    canvas.ellipse(x + offset, y, 0.06 * a + 0.4, a, turn / 6, ink)
    edge = pick(rng, ((0.20, 0.15, 0.11), (0.85, 0.83, 0.78), (0.45, 0.32, 0.20)), 0.02)
    for x, y, w, h in ((0, 0, width, frame), (0, height - frame, width, frame), (0, 0, frame, height)):
        canvas.rectangle(x, y, w, h, edge)
    canvas.rectangle(width - frame, 0, frame, height, edge)
    return grained(canvas.pixels(), noise(rng, shape, 8, 3), 0.03)


def book_spines(rng: Generator, shape: Shape, shelves: int) -> np.ndarray:
    """The front of a full bookshelf."""
    height, width = shape
    canvas = Canvas(shape, (0.13, 0.09, 0.07))
    pitch, board, wood = height / shelves, 5, (0.50, 0.36, 0.23)
    for shelf in range(shelves):
        floor, x = (shelf + 1) * pitch, float(board)
        while x < width - board - 6:
            thick, tall = rng.uniform(5, 13), (pitch - board) * rng.uniform(0.68, 0.95)
            cover, top = pick(rng, INKS, 0.07), floor - board - tall
            canvas.rectangle(x, top, thick - 0.7, tall, cover)
            for _ in range(rng.integers(1, 4)):
                y, band = top + tall * rng.uniform(0.06, 0.9), tall * rng.uniform(0.02, 0.14)
                canvas.rectangle(x + 0.8, y, thick - 2.3, band, pick(rng, INKS, 0.1))
            x += thick + (rng.uniform(3, 12) if rng.random() < 0.08 else 0)
        canvas.rectangle(0, floor - board, width, board, wood)
    for x in (0, width - board):
        canvas.rectangle(x, 0, board, height, wood)
    canvas.rectangle(0, 0, width, board, wood)
    return grained(canvas.pixels(), noise(rng, shape, 10, 4), 0.06)


def rug(rng: Generator, shape: Shape) -> np.ndarray:
    """A woven rug: nested borders and scattered medallions."""
    height, width = shape
    canvas = Canvas(shape, (0.42, 0.17, 0.15))
    sand, navy, tan, wine = (0.80, 0.70, 0.52), (0.17, 0.23, 0.34), (0.72, 0.55, 0.36), (0.47, 0.19, 0.17)
    for inset, colour in ((6, sand), (13, navy), (40, tan), (44, wine)):
        canvas.rectangle(inset, inset, width - 2 * inset, height - 2 * inset, colour)
    for _ in range(height * width // 420):
        x, y = rng.uniform(15, width - 15), rng.uniform(15, height - 15)
        size, turn = rng.uniform(3, 10), rng.uniform(0, np.pi)
        canvas.ellipse(x, y, size, 0.55 * size, turn, pick(rng, INKS))
        canvas.ellipse(x, y, 0.5 * size, 0.25 * size, turn, pick(rng, INKS))
    return grained(canvas.pixels(), noise(rng, shape, 6, 3), 0.09)


def patchwork(rng: Generator, shape: Shape, cells: Shape, inks: Sequence[Colour] = INKS) -> np.ndarray:
    """A grid of coloured patches, each with a dot or a bar on it."""
    canvas = Canvas(shape, inks[0])
    h, w = shape[0] / cells[0], shape[1] / cells[1]
    for row, column in np.ndindex(*cells):
        x, y = column * w, row * h
        canvas.rectangle(x, y, w + 1, h + 1, pick(rng, inks))
        cx, cy = x + rng.uniform(0.35, 0.65) * w, y + rng.uniform(0.35, 0.65) * h
        rx, ry = rng.uniform(0.1, 0.32, 2) * (w, h)
        canvas.ellipse(cx, cy, rx, ry, 0, pick(rng, inks))
    return grained(canvas.pixels(), noise(rng, shape, 12, 4), 0.07)


def glaze(rng: Generator, shape: Shape, ground: Colour, inks: Sequence[Colour], count: int, size: float) -> np.ndarray:
    """Pottery: brush dabs of the inks, up to `size` texels long, on a mottled ground."""
    canvas = Canvas(shape, ground)
    for _ in range(count):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        long = size * rng.uniform(0.3, 1)
        canvas.ellipse(x, y, long, long * rng.uniform(0.25, 0.8), rng.uniform(0, np.pi), pick(rng, inks))
    return grained(canvas.pixels(), noise(rng, shape, 24, 5), 0.06)


def sphere_points(shape: Shape) -> np.ndarray:
    """Unit vectors (H, W, 3) of an equirectangular map: north pole on top, longitude -180° on the left."""
    latitude = np.pi * ((np.arange(shape[0]) + 0.5) / shape[0])[:, None]
    longitude = 2 * np.pi * ((np.arange(shape[1]) + 0.5) / shape[1] - 0.5)[None, :]
    x, y = np.sin(latitude) * np.cos(longitude), np.sin(latitude) * np.sin(longitude)
    return np.stack([x, y, np.broadcast_to(np.cos(latitude), shape)], axis=-1)


def globe(rng: Generator, shape: Shape) -> np.ndarray:
    """A school globe: land, shallows, ice and a graticule."""
    points = sphere_points(shape)
    relief, detail = solid_noise(rng, points, 1.6), solid_noise(rng, points, 7, 4)
    land = np.clip(8 * (relief - 0.15) + 0.5, 0, 1)[..., None]
    hills = np.clip(0.5 + 0.35 * detail, 0, 1)[..., None]
    shallows = np.clip(relief + 0.6, 0, 0.7)[..., None]
    sea = np.array((0.16, 0.36, 0.52)) + shallows * (0.16, 0.25, 0.22)
    ground = np.array((0.36, 0.46, 0.22)) * (1 - hills) + np.array((0.76, 0.62, 0.38)) * hills
    ice = np.clip(12 * (np.abs(points[..., 2:]) - 0.9), 0, 1)
    image = (sea * (1 - land) + ground * land) * (1 - ice) + 0.88 * ice
    for axis, lines in ((0, 9), (1, 18)):
        period = shape[axis] / lines
        marks = np.abs((np.arange(shape[axis]) + 0.5) % period - period / 2) < 0.8
        image[marks if axis == 0 else (slice(None), marks)] *= 0.72
    return grained(image, detail, 0.05)
