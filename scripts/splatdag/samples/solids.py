"""Rays against boxes, spheres and upright frusta, compiled; metres, world z up.

Numba's cache looks only at the file of the function called from Python: after a change here, touch
`raytrace.py`.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import njit

BOX, SPHERE, FRUSTUM = 0, 1, 2
FACES = (6, 1, 3)  # box: -x +x -y +y -z +z; sphere: all of it; frustum: side, top, bottom

# A solid is a row of these columns. S*: half extents of a box, radius of a sphere, or bottom radius, top
# radius and half height of a frustum; COS and SIN turn it about z; REACH is its bounding sphere's radius.
KIND, CX, CY, CZ, SX, SY, SZ, COS, SIN, REACH, GLOSS, GLOW, CHART = range(13)

EPSILON = 1e-6  # metres; hits nearer than this are the surface the ray left

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def distance_to(solid, ox, oy, oz, dx, dy, dz):
    """Distance along a unit ray to one solid; infinity when missed."""
    x0, y0, z = ox - solid[CX], oy - solid[CY], oz - solid[CZ]
    x, y = solid[COS] * x0 + solid[SIN] * y0, solid[COS] * y0 - solid[SIN] * x0
    ex, ey = solid[COS] * dx + solid[SIN] * dy, solid[COS] * dy - solid[SIN] * dx
    a, b, c = solid[SX], solid[SY], solid[SZ]
    if solid[KIND] == BOX:
        ix, iy, iz = 1 / ex, 1 / ey, 1 / dz
        x1, y1, z1 = (-a - x) * ix, (-b - y) * iy, (-c - z) * iz
        x2, y2, z2 = (a - x) * ix, (b - y) * iy, (c - z) * iz
        near = max(min(x1, x2), min(y1, y2), min(z1, z2))
        far = min(max(x1, x2), max(y1, y2), max(z1, z2))
        if near > far or far < EPSILON:
            return np.inf
        return near if near > EPSILON else far
    if solid[KIND] == SPHERE:
        half = x * ex + y * ey + z * dz
        inside = half * half - (x * x + y * y + z * z - a * a)
        if inside < 0:
            return np.inf
        near = -half - np.sqrt(inside)
        return near if near > EPSILON else np.inf
    mean, slope, best = 0.5 * (a + b), 0.5 * (b - a) / c, np.inf
    r, k = mean + slope * z, slope * dz
    qa, qb, qc = ex * ex + ey * ey - k * k, x * ex + y * ey - r * k, x * x + y * y - r * r
    inside = qb * qb - qa * qc
    if inside > 0:
        for sign in (-1.0, 1.0):
            t = (-qb + sign * np.sqrt(inside)) / qa
            if EPSILON < t < best and abs(z + t * dz) < c:
                best = t
    for cap, radius in ((-c, a), (c, b)):
        t = (cap - z) / dz
        if EPSILON < t < best and (x + t * ex) ** 2 + (y + t * ey) ** 2 < radius * radius:
            best = t
    return best


@compiled
def _passes(solid, ox, oy, oz, dx, dy, dz):
    """Tell whether the ray's line misses the solid's bounding sphere."""
    x, y, z = ox - solid[CX], oy - solid[CY], oz - solid[CZ]
    along = x * dx + y * dy + z * dz
    return x * x + y * y + z * z - along * along > solid[REACH] * solid[REACH]


@compiled
def nearest(solids, ox, oy, oz, dx, dy, dz):
    """Distance and index of the first solid along a unit ray; index -1 outside the room."""
    best, hit = np.inf, -1
    for i in range(solids.shape[0]):
        if _passes(solids[i], ox, oy, oz, dx, dy, dz):
            continue
        t = distance_to(solids[i], ox, oy, oz, dx, dy, dz)
        if t < best:
            best, hit = t, i
    return best, hit


@compiled
def blocked(solids, ox, oy, oz, dx, dy, dz, distance):
    """Tell whether anything but the room or a glowing solid lies within `distance`."""
    for i in range(1, solids.shape[0]):
        if _passes(solids[i], ox, oy, oz, dx, dy, dz) or solids[i, GLOW] > 0:
            continue
        if distance_to(solids[i], ox, oy, oz, dx, dy, dz) < distance:
            return True
    return False


@compiled
def surface(solid, px, py, pz):
    """Face, u, v and outward normal at a point on a solid."""
    x0, y0, z = px - solid[CX], py - solid[CY], pz - solid[CZ]
    x, y = solid[COS] * x0 + solid[SIN] * y0, solid[COS] * y0 - solid[SIN] * x0
    a, b, c = solid[SX], solid[SY], solid[SZ]
    nx, ny, nz = 0.0, 0.0, 0.0
    if solid[KIND] == BOX:
        gx, gy, gz = abs(abs(x) - a), abs(abs(y) - b), abs(abs(z) - c)
        if gx <= gy and gx <= gz:
            nx = 1.0 if x > 0 else -1.0
            face, u, v = 0 + (x > 0), 0.5 + 0.5 * nx * y / b, 0.5 - 0.5 * z / c
        elif gy <= gz:
            ny = 1.0 if y > 0 else -1.0
            face, u, v = 2 + (y > 0), 0.5 - 0.5 * ny * x / a, 0.5 - 0.5 * z / c
        else:
            nz = 1.0 if z > 0 else -1.0
            face, u, v = 4 + (z > 0), 0.5 + 0.5 * x / a, 0.5 - 0.5 * y / b
    elif solid[KIND] == SPHERE:
        nx, ny, nz = x / a, y / a, z / a
        face, u, v = 0, np.arctan2(y, x) / (2 * np.pi) + 0.5, np.arccos(min(max(nz, -1.0), 1.0)) / np.pi
    elif abs(z) > c - EPSILON:
        nz, radius = (1.0, b) if z > 0 else (-1.0, a)
        face, u, v = 1 + (z < 0), 0.5 + 0.5 * x / radius, 0.5 - 0.5 * y / radius
    else:
        slope, radius = 0.5 * (b - a) / c, np.sqrt(x * x + y * y)
        scale = 1 / np.sqrt(1 + slope * slope)
        nx, ny, nz = x / radius * scale, y / radius * scale, -slope * scale
        face, u, v = 0, np.arctan2(y, x) / (2 * np.pi) + 0.5, 0.5 - 0.5 * z / c
    return face, u, v, solid[COS] * nx - solid[SIN] * ny, solid[SIN] * nx + solid[COS] * ny, nz


@compiled
def point_on(solid, face, u, v):
    """World point at u, v of a face: the inverse of `surface`."""
    a, b, c = solid[SX], solid[SY], solid[SZ]
    if solid[KIND] == BOX:
        sign = 1.0 if face % 2 else -1.0
        if face < 2:
            x, y, z = sign * a, sign * (2 * u - 1) * b, (1 - 2 * v) * c
        elif face < 4:
            x, y, z = -sign * (2 * u - 1) * a, sign * b, (1 - 2 * v) * c
        else:
            x, y, z = (2 * u - 1) * a, (1 - 2 * v) * b, sign * c
    else:
        angle = 2 * np.pi * (u - 0.5)
        if solid[KIND] == SPHERE:
            x, y = a * np.sin(np.pi * v) * np.cos(angle), a * np.sin(np.pi * v) * np.sin(angle)
            z = a * np.cos(np.pi * v)
        elif face == 0:
            radius = b + (a - b) * v
            x, y, z = radius * np.cos(angle), radius * np.sin(angle), (1 - 2 * v) * c
        else:
            radius = b if face == 1 else a
            x, y, z = (2 * u - 1) * radius, (1 - 2 * v) * radius, c if face == 1 else -c
    x, y = solid[COS] * x - solid[SIN] * y, solid[SIN] * x + solid[COS] * y
    return solid[CX] + x, solid[CY] + y, solid[CZ] + z
