"""A small CPU ray tracer: textured solids under baked soft light.

Light is baked once into a map per face (direct light of the rectangular lamps plus one bounce), so that a
photo costs one ray per sample. Results do not depend on the number of threads.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from splatdag.samples.solids import (
    BOX,
    CHART,
    GLOSS,
    GLOW,
    KIND,
    blocked,
    compiled,
    nearest,
    point_on,
    surface,
)

# Columns of Scene.charts.
SOLID, FACE, TEXELS, WIDTH, HEIGHT, LEVELS, LIGHT, LIGHT_WIDTH, LIGHT_HEIGHT = range(9)

LAMP_SAMPLES = 6  # per side
BOUNCE_SAMPLES = 5  # per side
AMBIENT = 0.16  # what the second and later bounces add, as radiance of a white surface


class Scene(NamedTuple):
    """Arrays the compiled kernels read; `splatdag.samples.scene.assemble` makes them.

    A chart is one face of one solid with its texture and light map, both indexed by u, v in 0 to 1.
    """

    solids: np.ndarray  # (P, 13) float64; the room itself is solid 0, seen from inside
    charts: np.ndarray  # (C, 9) int64
    density: np.ndarray  # (C,) float64, texels per metre
    repeats: np.ndarray  # (C, 2) float64, how often the texture lies along u and v
    texels: np.ndarray  # (T, 3) float32, linear RGB, each texture followed by its mip levels
    light: np.ndarray  # (L, 3) float32, radiance leaving a white surface
    lamps: np.ndarray  # (M, 4, 3) float64: centre, two half edges, radiance


@compiled
def _bilinear(colours, start, width, height, u, v, wrap_u, wrap_v):
    x, y = u * width - 0.5, v * height - 0.5
    if not wrap_u:
        x = min(max(x, 0.0), width - 1.0)
    if not wrap_v:
        y = min(max(y, 0.0), height - 1.0)
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    x1, y1 = x0 + 1, y0 + 1
    if wrap_u:
        x0, x1 = x0 % width, x1 % width
    else:
        x1 = min(x1, width - 1)
    if wrap_v:
        y0, y1 = y0 % height, y1 % height
    else:
        y1 = min(y1, height - 1)
    i, j = start + y0 * width, start + y1 * width
    a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    p, q, r, s = colours[i + x0], colours[i + x1], colours[j + x0], colours[j + x1]
    return (
        a * p[0] + b * q[0] + c * r[0] + d * s[0],
        a * p[1] + b * q[1] + c * r[1] + d * s[1],
        a * p[2] + b * q[2] + c * r[2] + d * s[2],
    )


@compiled
def textured(scene, number, u, v, footprint, around):
    """Linear colour (r, g, b) at u, v of a chart, blurred over `footprint` metres; `around`: u is an angle."""
    chart = scene.charts[number]
    wrap_u, wrap_v = around or scene.repeats[number, 0] > 1, scene.repeats[number, 1] > 1
    u, v = u * scene.repeats[number, 0], v * scene.repeats[number, 1]
    lod = min(max(np.log2(footprint * scene.density[number]), 0.0), chart[LEVELS] - 1.001)
    start, width, height = chart[TEXELS], chart[WIDTH], chart[HEIGHT]
    for _ in range(int(lod)):
        start, width, height = start + width * height, (width + 1) // 2, (height + 1) // 2
    blend = lod - int(lod)
    r0, g0, b0 = _bilinear(scene.texels, start, width, height, u, v, wrap_u, wrap_v)
    start, width, height = start + width * height, (width + 1) // 2, (height + 1) // 2
    r1, g1, b1 = _bilinear(scene.texels, start, width, height, u, v, wrap_u, wrap_v)
    return r0 + blend * (r1 - r0), g0 + blend * (g1 - g0), b0 + blend * (b1 - b0)


@compiled
def _radiance(scene, ox, oy, oz, dx, dy, dz, spread):
    """Diffuse radiance (r, g, b) arriving along a unit ray, the solid hit, its distance and its normal.

    The ray's footprint grows by `spread` metres per metre; the normal (x, y, z) faces the ray.
    """
    t, hit = nearest(scene.solids, ox, oy, oz, dx, dy, dz)
    if hit < 0:
        return 0.0, 0.0, 0.0, 0, t, 0.0, 0.0, 0.0
    solid = scene.solids[hit]
    face, u, v, nx, ny, nz = surface(solid, ox + t * dx, oy + t * dy, oz + t * dz)
    facing = -(nx * dx + ny * dy + nz * dz)
    if facing < 0:
        nx, ny, nz, facing = -nx, -ny, -nz, -facing
    number = int(solid[CHART]) + face
    chart = scene.charts[number]
    around = solid[KIND] != BOX and face == 0
    # The footprint is an ellipse; its geometric mean balances blur against aliasing at grazing angles.
    red, green, blue = textured(scene, number, u, v, t * spread / np.sqrt(max(facing, 0.02)), around)
    r, g, b = solid[GLOW], solid[GLOW], solid[GLOW]
    if solid[GLOW] == 0:
        width, height = chart[LIGHT_WIDTH], chart[LIGHT_HEIGHT]
        r, g, b = _bilinear(scene.light, chart[LIGHT], width, height, u, v, around, False)
    r, g, b = r * red, g * green, b * blue
    return r, g, b, hit, t, nx, ny, nz


@compiled
def _lamplight(scene, x, y, z, nx, ny, nz):
    """Radiance of a white surface under the lamps alone, with soft shadows."""
    red, green, blue = 0.0, 0.0, 0.0
    for lamp in scene.lamps:
        p, e, f = lamp[0], lamp[1], lamp[2]
        # |4 e × f| is the lamp's area; its direction the way it shines.
        ax, ay, az = e[1] * f[2] - e[2] * f[1], e[2] * f[0] - e[0] * f[2], e[0] * f[1] - e[1] * f[0]
        total = 0.0
        for sample in range(LAMP_SAMPLES * LAMP_SAMPLES):
            s = (2 * (sample % LAMP_SAMPLES) + 1) / LAMP_SAMPLES - 1
            t = (2 * (sample // LAMP_SAMPLES) + 1) / LAMP_SAMPLES - 1
            dx = p[0] + s * e[0] + t * f[0] - x
            dy = p[1] + s * e[1] + t * f[1] - y
            dz = p[2] + s * e[2] + t * f[2] - z
            distance = np.sqrt(dx * dx + dy * dy + dz * dz)
            dx, dy, dz = dx / distance, dy / distance, dz / distance
            there, here = -4 * (ax * dx + ay * dy + az * dz), nx * dx + ny * dy + nz * dz
            if there > 0 and here > 0 and not blocked(scene.solids, x, y, z, dx, dy, dz, distance):
                total += there * here / (distance * distance)
        total /= np.pi * LAMP_SAMPLES * LAMP_SAMPLES
        red, green, blue = red + total * lamp[3, 0], green + total * lamp[3, 1], blue + total * lamp[3, 2]
    return red, green, blue


@compiled
def _bounce(scene, x, y, z, nx, ny, nz, turn):
    """Radiance of a white surface under the light the scene sends back, from cosine-distributed rays."""
    sign = 1.0 if nz >= 0 else -1.0  # orthonormal basis of Duff et al. 2017, listing 3
    a, b = -1 / (sign + nz), nx * ny * (-1 / (sign + nz))
    red, green, blue = 0.0, 0.0, 0.0
    for sample in range(BOUNCE_SAMPLES * BOUNCE_SAMPLES):
        s, radius2 = (sample % BOUNCE_SAMPLES + 0.5), (sample // BOUNCE_SAMPLES + 0.5) / BOUNCE_SAMPLES
        angle = 2 * np.pi * (s / BOUNCE_SAMPLES + turn)
        p, q, n = np.sqrt(radius2) * np.cos(angle), np.sqrt(radius2) * np.sin(angle), np.sqrt(1 - radius2)
        dx = p * (1 + sign * nx * nx * a) + q * b + n * nx
        dy = p * sign * b + q * (sign + ny * ny * a) + n * ny
        dz = -p * sign * nx - q * ny + n * nz
        r, g, b_, hit, _, _, _, _ = _radiance(scene, x, y, z, dx, dy, dz, 0.3)
        if scene.solids[hit, GLOW] == 0:  # the lamps have been counted
            red, green, blue = red + r, green + g, blue + b_
    count = BOUNCE_SAMPLES * BOUNCE_SAMPLES
    return red / count, green / count, blue / count


@compiled
def bake(scene, number, bounced, out):
    """Fill one chart's part of `out` (L, 3) with lamp light, or with what bounces of `scene.light` add."""
    chart = scene.charts[number]
    solid = scene.solids[chart[SOLID]]
    width, height = chart[LIGHT_WIDTH], chart[LIGHT_HEIGHT]
    for texel in range(width * height):
        u, v = (texel % width + 0.5) / width, (texel // width + 0.5) / height
        x, y, z = point_on(solid, chart[FACE], u, v)
        _, _, _, nx, ny, nz = surface(solid, x, y, z)
        if chart[SOLID] == 0:
            nx, ny, nz = -nx, -ny, -nz
        x, y, z = x + 1e-4 * nx, y + 1e-4 * ny, z + 1e-4 * nz
        if bounced:
            r, g, b = _bounce(scene, x, y, z, nx, ny, nz, texel * 0.6180339887498949 % 1)
            r, g, b = r + AMBIENT, g + AMBIENT, b + AMBIENT
        else:
            r, g, b = _lamplight(scene, x, y, z, nx, ny, nz)
        row = out[chart[LIGHT] + texel]
        row[0], row[1], row[2] = r, g, b


@compiled
def render(scene, camera_to_world, focal, cx, cy, k, image):
    """Fill `image` (H, W, 3) with the linear radiance a SIMPLE_RADIAL camera sees, 2×2 samples a pixel.

    OpenCV axes (x right, y down, z forward); the centre of the first pixel is at (0.5, 0.5).
    """
    height, width = image.shape[0], image.shape[1]
    m = camera_to_world
    spread = 0.6 / focal
    for row in range(height):
        for column in range(width):
            red, green, blue = 0.0, 0.0, 0.0
            for sample in range(4):
                x = (column + 0.25 + 0.5 * (sample % 2) - cx) / focal
                y = (row + 0.25 + 0.5 * (sample // 2) - cy) / focal
                bent = np.sqrt(x * x + y * y)
                straight = bent
                for _ in range(4):  # Newton's method on straight × (1 + k straight²) = bent
                    straight -= (straight * (1 + k * straight**2) - bent) / (1 + 3 * k * straight**2)
                scale = straight / bent if bent > 0 else 1.0
                x, y = x * scale, y * scale
                length = np.sqrt(x * x + y * y + 1)
                dx = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / length
                dy = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / length
                dz = (m[2, 0] * x + m[2, 1] * y + m[2, 2]) / length
                ox, oy, oz, widening, weight = m[0, 3], m[1, 3], m[2, 3], spread, 1.0
                for _ in range(2):  # what is seen, and once more in the mirror of a glossy surface
                    r, g, b, hit, t, nx, ny, nz = _radiance(scene, ox, oy, oz, dx, dy, dz, widening)
                    facing = -(nx * dx + ny * dy + nz * dz)
                    mirror = scene.solids[hit, GLOSS]
                    if mirror > 0:
                        mirror += (1 - mirror) * (1 - facing) ** 5  # Schlick 1994, equation 15
                    own = weight * (1 - mirror)
                    red, green, blue = red + own * r, green + own * g, blue + own * b
                    weight *= mirror
                    if weight == 0:
                        break
                    ox, oy, oz, widening = ox + t * dx, oy + t * dy, oz + t * dz, 0.03
                    dx, dy, dz = dx + 2 * facing * nx, dy + 2 * facing * ny, dz + 2 * facing * nz
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = red / 4, green / 4, blue / 4
