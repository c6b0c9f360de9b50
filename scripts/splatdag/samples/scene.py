"""The sample room: what stands where, what covers it, and the lamps. Metres, z up, floor at z = 0."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.random import Generator
from PIL import Image

from splatdag.samples import raytrace, textures
from splatdag.samples.raytrace import Scene
from splatdag.samples.solids import BOX, FACES, FRUSTUM, SPHERE

Vector = tuple[float, float, float]

LIGHT_SPACING = (0.06, 0.035)  # metres between light map texels, on the room and on the solids in it
OAK, PINE, WALNUT = (0.60, 0.43, 0.27), (0.74, 0.57, 0.37), (0.42, 0.28, 0.19)


@dataclass(frozen=True)
class Solid:
    """One textured solid.

    `size` holds the half extents of a box, the radius of a sphere (thrice), or the bottom radius, top radius
    and half height of an upright frustum. `skins` is one sRGB texture (H, W, 3) for all faces, or one a face
    in the order of `solids.FACES`. `gloss` is the mirror reflectance seen head-on; `glow` the radiance of a
    white texel that ignores the lamps. A texture covers its face once, or repeats about every `tile` metres
    along u and v.
    """

    name: str
    kind: int
    centre: Vector
    size: Vector
    skins: tuple[np.ndarray, ...]
    turn: float = 0.0  # radians about z
    gloss: float = 0.0
    glow: float = 0.0
    tile: tuple[float, float] = (np.inf, np.inf)


TABLE_TOP = 0.74  # height, metres
TABLE_HALF = (0.78, 0.50)
GLOBE = ((-0.40, 0.12, TABLE_TOP + 0.19), 0.14)
"""Centre and radius of the globe on the table."""

LAMPS = np.array(
    [
        [(0.15, 0.1, 2.50), (0.0, 0.28, 0.0), (0.62, 0.0, 0.0), (13.6, 12.0, 10.0)],  # ceiling panel
        [(-2.44, -0.2, 1.5), (0.0, 0.72, 0.0), (0.0, 0.0, 0.58), (8.4, 9.0, 9.8)],  # window
    ]
)
"""Rectangular lamps (M, 4, 3): centre, two half edges (their cross product is where it shines), radiance."""


def furnish(rng: Generator) -> list[Solid]:
    """Everything in the room; the room itself comes first."""
    return [_room(rng), *_furniture(rng), *_tabletop(rng)]


def _hang(wall: np.ndarray, picture: np.ndarray, x: int, y: int) -> None:
    """Paste a picture with its top left corner at texel x, y, over a soft shadow."""
    h, w = picture.shape[:2]
    wall[y + 4 : y + h + 4, x + 3 : x + w + 3] *= 0.72
    wall[y : y + h, x : x + w] = picture


def _room(rng: Generator) -> Solid:
    """Walls and floor at 5 mm a texel. Seen from inside, u of a wall runs from right to left."""
    long, short, floor = (520, 1000), (520, 800), (800, 1000)
    sage, ochre, ivory = (0.55, 0.61, 0.50), (0.83, 0.74, 0.58), (0.80, 0.80, 0.73)
    teals = ((0.36, 0.50, 0.47), (0.55, 0.62, 0.48), (0.70, 0.52, 0.40))
    mosses = ((0.38, 0.46, 0.36), (0.72, 0.73, 0.58), (0.30, 0.38, 0.36))
    west = textures.plaster(rng, short, ochre)
    east = textures.wallpaper(rng, short, ivory, teals)
    south = textures.bricks(rng, long)
    north = textures.wallpaper(rng, long, sage, mosses, 32)
    for wall, spots in (
        (west, ((40, 90, 120, 170), (60, 300, 140, 100), (640, 80, 130, 180), (630, 300, 150, 110))),
        (east, ((60, 80, 170, 120), (290, 60, 130, 190), (470, 90, 190, 140))),
        (east, ((110, 240, 130, 180), (560, 270, 150, 110))),
        (south, ((90, 70, 150, 200), (310, 110, 210, 150), (590, 60, 140, 190), (790, 110, 140, 140))),
        (north, ((60, 60, 150, 210), (270, 90, 220, 150), (820, 60, 120, 160))),
    ):
        for x, y, w, h in spots:
            _hang(wall, textures.poster(rng, (h, w)), x, y)
        wall[-18:] = textures.planks(rng, (18, wall.shape[1]), 18, (0.80, 0.76, 0.68))
    ceiling = textures.planks(rng, (400, 500), 18, (0.80, 0.76, 0.68))
    ground = textures.planks(rng, floor, 26, OAK)
    return Solid("room", BOX, (0, 0, 1.3), (2.5, 2.0, 1.3), (west, east, south, north, ground, ceiling))


def _window(rng: Generator) -> np.ndarray:
    """The view through a window with a cross bar: sky, clouds, hills."""
    shape = (240, 300)
    rows = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    view = np.array((0.50, 0.68, 0.88)) * (1 - rows) + np.array((0.88, 0.92, 0.95)) * rows
    clouds = np.clip(0.4 * textures.noise(rng, shape, 60, 5, 2.0), 0, 0.8)[..., None]
    view = view * (1 - clouds) + 0.97 * clouds
    for base, height, colour in ((0.66, 22, (0.55, 0.66, 0.68)), (0.78, 28, (0.38, 0.51, 0.36))):
        ridge = base * shape[0] + height * textures.noise(rng, (2, shape[1]), 70, 5)[0] * 0.5
        hills = np.arange(shape[0])[:, None] > ridge[None]
        view[hills] = textures.plaster(rng, shape, colour, 0.11)[hills]
    white = textures.plaster(rng, shape, (0.86, 0.84, 0.80), 0.05)
    bars = np.zeros(shape, bool)
    bars[:12], bars[-12:], bars[:, :12], bars[:, -12:], bars[:, 144:156], bars[80:88] = (True,) * 6
    view[bars] = white[bars]
    return view


def _furniture(rng: Generator) -> Iterable[Solid]:
    oak, walnut = textures.planks(rng, (120, 200), 24, OAK), textures.planks(rng, (120, 200), 30, WALNUT)
    top = textures.planks(rng, (250, 390), 42, PINE)
    yield Solid("table", BOX, (0, 0, TABLE_TOP - 0.02), (*TABLE_HALF, 0.02), (oak, oak, oak, oak, oak, top))
    leg = textures.planks(rng, (120, 24), 24, PINE)
    for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        yield Solid("table leg", BOX, (0.71 * x, 0.43 * y, 0.35), (0.03, 0.03, 0.35), (leg,))
    yield Solid("rug", BOX, (0, 0, 0.006), (1.35, 1.0, 0.006), (textures.rug(rng, (400, 540)),))

    books = textures.book_spines(rng, (420, 320), 6)
    yield Solid("bookshelf", BOX, (-1.0, 1.84, 0.97), (0.74, 0.15, 0.97), (oak, oak, books, oak, oak, oak))
    doors = textures.planks(rng, (160, 240), 40, WALNUT)
    for x in (6, 126):
        _hang(doors, textures.planks(rng, (140, 104), 20, (0.52, 0.36, 0.24)), x, 8)
    yield Solid("sideboard", BOX, (0.62, 1.78, 0.40), (0.60, 0.20, 0.40), (walnut, walnut, doors, *3 * (walnut,)))
    pot = textures.glaze(rng, (90, 240), (0.62, 0.36, 0.26), ((0.80, 0.62, 0.45), (0.35, 0.20, 0.16)), 260, 7)
    yield Solid("plant pot", FRUSTUM, (0.95, 1.78, 0.89), (0.09, 0.13, 0.09), (pot,))
    greens = ((0.20, 0.36, 0.16), (0.36, 0.50, 0.20), (0.14, 0.25, 0.13), (0.52, 0.60, 0.28))
    leaves = textures.glaze(rng, (170, 340), (0.12, 0.20, 0.10), greens, 1400, 10)
    yield Solid("foliage", SPHERE, (0.95, 1.76, 1.16), (0.21, 0.21, 0.21), (leaves,))
    art = textures.poster(rng, (150, 110), 30)
    yield Solid("picture", BOX, (0.38, 1.86, 1.02), (0.17, 0.015, 0.22), (walnut, walnut, art, *3 * (walnut,)))

    threads = ((0.22, 0.33, 0.38), (0.44, 0.56, 0.56), (0.75, 0.65, 0.45))
    cloth = textures.glaze(rng, (220, 260), (0.29, 0.42, 0.46), threads, 1500, 7)
    for name, centre, half in (
        ("seat", (1.92, 1.42, 0.22), (0.36, 0.36, 0.22)),
        ("back", (1.92, 1.86, 0.46), (0.46, 0.10, 0.46)),
        ("arm", (1.50, 1.44, 0.30), (0.07, 0.34, 0.30)),
    ):
        yield Solid(f"armchair {name}", BOX, centre, half, (cloth,))
    cushion = textures.patchwork(rng, (120, 120), (5, 5))
    yield Solid("cushion", BOX, (1.93, 1.64, 0.60), (0.18, 0.06, 0.17), (cushion,), turn=0.15)
    wools = ((0.56, 0.47, 0.37), (0.83, 0.77, 0.66))
    knit = textures.glaze(rng, (120, 360), (0.70, 0.62, 0.50), wools, 1300, 7)
    yield Solid("pouf", FRUSTUM, (-1.55, 1.25, 0.19), (0.27, 0.24, 0.19), (knit,))
    crate = textures.planks(rng, (110, 150), 22, (0.66, 0.52, 0.36))
    yield Solid("crate", BOX, (-2.02, -1.56, 0.24), (0.28, 0.24, 0.24), (crate,), turn=0.2)
    slips = ((0.82, 0.80, 0.72), (0.18, 0.25, 0.36))
    jar = textures.glaze(rng, (220, 260), (0.30, 0.40, 0.50), slips, 420, 10)
    yield Solid("floor jar", FRUSTUM, (2.12, -1.58, 0.38), (0.13, 0.20, 0.38), (jar,))
    yield Solid("window", BOX, (-2.48, -0.2, 1.5), (0.02, 0.75, 0.6), (_window(rng),), glow=1.0)
    panel = textures.plaster(rng, (60, 130), (0.99, 0.97, 0.92), 0.01)
    yield Solid("ceiling lamp", BOX, (0.15, 0.1, 2.56), (0.65, 0.30, 0.04), (panel,), glow=7.0)


def _tabletop(rng: Generator) -> Iterable[Solid]:
    brass = textures.plaster(rng, (40, 120), (0.62, 0.48, 0.24), 0.12)
    centre, radius = GLOBE
    yield Solid("globe", SPHERE, centre, (radius,) * 3, (textures.globe(rng, (240, 480)),))
    yield Solid("globe foot", FRUSTUM, (centre[0], centre[1], TABLE_TOP + 0.03), (0.09, 0.04, 0.03), (brass,))
    flecks = ((0.66, 0.36, 0.18), (0.30, 0.05, 0.07))
    lacquer = textures.glaze(rng, (200, 400), (0.50, 0.10, 0.10), flecks, 300, 8)
    yield Solid("glossy ball", SPHERE, (0.10, -0.24, TABLE_TOP + 0.10), (0.10,) * 3, (lacquer,), gloss=0.12)
    patches = textures.patchwork(rng, (180, 360), (7, 14))
    yield Solid("patchwork ball", SPHERE, (-0.2, -0.3, TABLE_TOP + 0.075), (0.075,) * 3, (patches,), turn=0.7)

    pages = textures.planks(rng, (24, 140), 3, (0.88, 0.83, 0.72))
    height = TABLE_TOP
    for half, turn in (((0.15, 0.11, 0.021), 0.25), ((0.14, 0.10, 0.016), -0.1), ((0.12, 0.09, 0.018), 0.55)):
        cover, spine = textures.poster(rng, (150, 200), 14), textures.poster(rng, (26, 150), 12, frame=1)
        skins = (pages, pages, spine, pages, cover, cover)
        yield Solid("book", BOX, (0.46, 0.16, height + half[2]), half, skins, turn)
        height += 2 * half[2]
    mug = textures.glaze(rng, (80, 220), (0.86, 0.83, 0.76), ((0.25, 0.38, 0.52), (0.45, 0.55, 0.60)), 150, 7)
    tea = textures.plaster(rng, (40, 40), (0.36, 0.20, 0.10), 0.1)
    yield Solid("mug", FRUSTUM, (0.44, 0.17, height + 0.05), (0.038, 0.044, 0.05), (mug, tea, mug))

    for name, x, y, side, turn in (
        ("large block", 0.50, -0.23, 0.12, 0.5),
        ("small block", 0.34, -0.36, 0.076, -0.3),
    ):
        faces = tuple(textures.poster(rng, (100, 100), 9, frame=6) for _ in range(6))
        yield Solid(name, BOX, (x, y, TABLE_TOP + side / 2), (side / 2,) * 3, faces, turn)
    cobalt = ((0.16, 0.26, 0.52), (0.36, 0.48, 0.68))
    delft = textures.glaze(rng, (200, 300), (0.88, 0.88, 0.85), cobalt, 420, 9)
    yield Solid("vase", FRUSTUM, (0.02, 0.20, TABLE_TOP + 0.13), (0.055, 0.09, 0.13), (delft,))
    stripes = textures.patchwork(rng, (150, 260), (8, 9), textures.INKS[:5])
    yield Solid("cone", FRUSTUM, (-0.54, -0.24, TABLE_TOP + 0.11), (0.085, 0.002, 0.11), (stripes,))
    box = textures.poster(rng, (90, 200), 16, frame=2)
    yield Solid("pencil case", BOX, (-0.02, -0.06, TABLE_TOP + 0.022), (0.11, 0.04, 0.022), (box,), turn=0.35)


def assemble(solids: list[Solid]) -> Scene:
    """Pack the solids for the ray tracer and bake their light (one or two seconds)."""
    scene = pack(solids, LIGHT_SPACING)
    for bounced in (False, True):
        added = np.zeros_like(scene.light)
        with ThreadPoolExecutor(numba.get_num_threads()) as pool:
            jobs = [pool.submit(raytrace.bake, scene, chart, bounced, added) for chart in range(len(scene.charts))]
        for job in jobs:
            job.result()
        scene.light[:] += added
    return scene


def pack(solids: list[Solid], light_spacing: tuple[float, float] = (np.inf, np.inf)) -> Scene:
    """The solids for the ray tracer, in the dark; metres between light map texels of the first and of the others."""
    rows: list[tuple[float, ...]] = []
    charts: list[tuple[int, ...]] = []
    density, repeats, texels = [], [], []
    packed: dict[int, tuple[int, int]] = {}  # texture identity: first texel, mip levels
    texel_count = light_count = 0
    for number, solid in enumerate(solids):
        cos_sin = (np.cos(solid.turn), np.sin(solid.turn))
        a, b, c = solid.size
        reach = (np.sqrt(a * a + b * b + c * c), a, np.hypot(max(a, b), c))[solid.kind]
        material = (solid.gloss, solid.glow, len(charts))
        rows.append((solid.kind, *solid.centre, a, b, c, *cos_sin, 1.001 * reach, *material))
        for face in range(FACES[solid.kind]):
            skin = solid.skins[face % len(solid.skins)]
            if id(skin) not in packed:
                levels = _mip_levels(skin)
                packed[id(skin)] = (texel_count, len(levels))
                texel_count += sum(len(level) for level in levels)
                texels += levels
            first, mips = packed[id(skin)]
            height, width = skin.shape[:2]
            across, down = _extent(solid, face)
            spacing = light_spacing[number > 0]
            light = (max(round(across / spacing), 4), max(round(down / spacing), 4))
            charts.append((number, face, first, width, height, mips, light_count, *light))
            times = max(round(across / solid.tile[0]), 1), max(round(down / solid.tile[1]), 1)
            density.append(np.sqrt(width * height * times[0] * times[1] / (across * down)))
            repeats.append(times)
            light_count += light[0] * light[1]
    return Scene(
        np.array(rows, np.float64),
        np.array(charts, np.int64),
        np.array(density),
        np.array(repeats, np.float64),
        np.concatenate(texels),
        np.zeros((light_count, 3), np.float32),
        LAMPS,
    )


def _extent(solid: Solid, face: int) -> tuple[float, float]:
    """Length of a face along u and along v, metres."""
    a, b, c = solid.size
    if solid.kind == BOX:
        return ((2 * b, 2 * c), (2 * a, 2 * c), (2 * a, 2 * b))[face // 2]
    if solid.kind == SPHERE:
        return 2 * np.pi * a, np.pi * a
    return (np.pi * (a + b), 2 * c) if face == 0 else (2 * max(a, b), 2 * max(a, b))


def _mip_levels(skin: np.ndarray) -> list[np.ndarray]:
    """Linear RGB texels (N, 3) of the texture and of its successive halvings, down to a side of 2."""
    linear = np.where(skin <= 0.04045, skin / 12.92, ((skin + 0.055) / 1.055) ** 2.4).astype(np.float32)
    levels = [linear]
    while min(levels[-1].shape[:2]) > 2 or len(levels) < 2:
        height, width = levels[-1].shape[:2]
        half = ((width + 1) // 2, (height + 1) // 2)
        channels = (Image.fromarray(np.ascontiguousarray(levels[-1][..., i])) for i in range(3))
        levels.append(np.stack([np.asarray(c.resize(half, Image.Resampling.BOX)) for c in channels], axis=-1))
    return [level.reshape(-1, 3) for level in levels]
