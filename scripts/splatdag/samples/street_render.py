"""Rays through a street: textured solids in sunlight under an open sky, some of them moving.

What stands still lies in a tree of bounding boxes; each body that moves is a few solids in its own frame, put where
it is at the time of the ray. Results do not depend on the number of threads.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from splatdag.samples.raytrace import Scene, textured
from splatdag.samples.solids import BOX, CHART, KIND, compiled, distance_to, surface

SUNLIGHT = np.array([1.55, 1.42, 1.22])  # radiance of a white surface that faces the sun
SKYLIGHT = np.array([0.50, 0.56, 0.66])  # the same under the sky alone
GROUNDLIGHT = np.array([0.30, 0.28, 0.25])  # and of one that faces the ground
LEAF = 2  # solids in a leaf of the tree


class Street(NamedTuple):
    """Arrays the kernels read; `street_scene.build` makes them."""

    scene: Scene  # what stands still, in the order of the leaves; then the bodies' solids; the sky last
    bounds: np.ndarray  # (M, 6) float64 of the tree's nodes, depth first: lowest and highest x, y, z
    nodes: np.ndarray  # (M, 3) int64: first solid, how many (0 in inner nodes), next node if this one is missed
    bodies: np.ndarray  # (A, 2) int64: first solid of a body and the one after its last
    spheres: np.ndarray  # (A, 2) float64: height and radius of a sphere around a body, metres
    sun: np.ndarray  # (3,) towards it


def tree(lowest, highest):
    """A tree over boxes [S, 3] and [S, 3]: the order of the solids, bounds and nodes as in `Street`."""
    order: list[int] = []
    bounds: list[list[float]] = []
    nodes: list[list[int]] = []

    def grow(members):
        here = len(nodes)
        bounds.append([*lowest[members].min(axis=0), *highest[members].max(axis=0)])
        nodes.append([len(order), 0, 0])
        if len(members) <= LEAF:
            nodes[here][1] = len(members)
            order.extend(members.tolist())
        else:
            middle = (lowest[members] + highest[members]) / 2
            axis = int(np.argmax(np.ptp(middle, axis=0)))
            ranked = members[np.argsort(middle[:, axis], kind="stable")]
            grow(ranked[: len(ranked) // 2])
            grow(ranked[len(ranked) // 2 :])
        nodes[here][2] = len(nodes)

    grow(np.arange(len(lowest)))
    return np.array(order), np.array(bounds), np.array(nodes)


@compiled
def _nearest(street, poses, ox, oy, oz, dx, dy, dz, any_will_do):
    """Distance, solid and body (-1: it stands still) of the first hit along a unit ray, or of any; solid -1: none."""
    solids, bounds, nodes, spheres = street.scene.solids, street.bounds, street.nodes, street.spheres
    best, hit, mover = np.inf, -1, -1
    ix, iy, iz = 1 / dx, 1 / dy, 1 / dz
    node = 0
    while node < len(nodes):
        x1, y1, z1 = (bounds[node, 0] - ox) * ix, (bounds[node, 1] - oy) * iy, (bounds[node, 2] - oz) * iz
        x2, y2, z2 = (bounds[node, 3] - ox) * ix, (bounds[node, 4] - oy) * iy, (bounds[node, 5] - oz) * iz
        near = max(min(x1, x2), min(y1, y2), min(z1, z2))
        far = min(max(x1, x2), max(y1, y2), max(z1, z2))
        if near > far or far < 0 or near > best:
            node = nodes[node, 2]
            continue
        for i in range(nodes[node, 0], nodes[node, 0] + nodes[node, 1]):
            t = distance_to(solids[i], ox, oy, oz, dx, dy, dz)
            if t < best:
                best, hit = t, i
                if any_will_do:
                    return best, hit, mover
        node += 1
    for body in range(len(street.bodies)):
        x, y, cos, sin = poses[body, 0], poses[body, 1], poses[body, 2], poses[body, 3]
        mx, my, mz, radius = ox - x, oy - y, oz - spheres[body, 0], spheres[body, 1]
        along = mx * dx + my * dy + mz * dz
        if mx * mx + my * my + mz * mz - along * along > radius * radius or -along - radius > best:
            continue
        lx, ly = cos * mx + sin * my, cos * my - sin * mx
        ex, ey = cos * dx + sin * dy, cos * dy - sin * dx
        for i in range(street.bodies[body, 0], street.bodies[body, 1]):
            t = distance_to(solids[i], lx, ly, oz, ex, ey, dz)
            if t < best:
                best, hit, mover = t, i, body
    return best, hit, mover


@compiled
def _look(street, poses, ox, oy, oz, dx, dy, dz, spread):
    """Look along a unit ray: colour, distance, solid, body, how squarely it is hit, its normal and its face's number.

    The colour is the surface's own (linear r, g, b), blurred over a footprint of `spread` metres per metre.
    """
    scene = street.scene
    t, hit, body = _nearest(street, poses, ox, oy, oz, dx, dy, dz, False)
    if hit < 0:
        sky = len(scene.solids) - 1
        u, v = np.arctan2(dy, dx) / (2 * np.pi) + 0.5, np.arccos(min(max(dz, -1.0), 1.0)) / np.pi
        red, green, blue = textured(scene, int(scene.solids[sky, CHART]), u, v, spread, True)
        return red, green, blue, np.inf, -1, -1, 1.0, 0.0, 0.0, 0.0, -1
    solid = scene.solids[hit]
    px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
    if body < 0:
        face, u, v, nx, ny, nz = surface(solid, px, py, pz)
    else:
        cos, sin = poses[body, 2], poses[body, 3]
        px, py = px - poses[body, 0], py - poses[body, 1]
        face, u, v, mx, my, nz = surface(solid, cos * px + sin * py, cos * py - sin * px, pz)
        nx, ny = cos * mx - sin * my, sin * mx + cos * my
    facing = -(nx * dx + ny * dy + nz * dz)
    around = solid[KIND] != BOX and face == 0
    chart = int(solid[CHART]) + face
    # The footprint is an ellipse; its geometric mean balances blur against aliasing at grazing angles.
    red, green, blue = textured(scene, chart, u, v, t * spread / np.sqrt(max(facing, 0.01)), around)
    return red, green, blue, t, hit, body, facing, nx, ny, nz, chart


@compiled
def _radiance(street, poses, ox, oy, oz, dx, dy, dz, spread):
    """Linear r, g, b that arrive along a unit ray, and a number that changes where an edge is."""
    red, green, blue, t, hit, body, _, nx, ny, nz, chart = _look(street, poses, ox, oy, oz, dx, dy, dz, spread)
    if hit < 0:
        return red, green, blue, -1
    sun = street.sun
    towards = nx * sun[0] + ny * sun[1] + nz * sun[2]
    lit = False
    if towards > 0:
        x, y, z = ox + t * dx + 1e-4 * nx, oy + t * dy + 1e-4 * ny, oz + t * dz + 1e-4 * nz
        _, blocker, _ = _nearest(street, poses, x, y, z, sun[0], sun[1], sun[2], True)
        lit = blocker < 0
    up = 0.5 + 0.5 * nz
    direct = towards if lit else 0.0
    red *= up * SKYLIGHT[0] + (1 - up) * GROUNDLIGHT[0] + direct * SUNLIGHT[0]
    green *= up * SKYLIGHT[1] + (1 - up) * GROUNDLIGHT[1] + direct * SUNLIGHT[1]
    blue *= up * SKYLIGHT[2] + (1 - up) * GROUNDLIGHT[2] + direct * SUNLIGHT[2]
    return red, green, blue, 2 * (chart + 100_000 * (body + 1)) + lit


@compiled
def photograph(street, poses, camera_to_world, K, image):
    """Fill `image` (H, W, 3) with the linear radiance a pinhole camera sees; K is fx, fy, cx, cy.

    `poses` (A, 4) holds x, y, cosine and sine of the yaw of each body. OpenCV axes; the centre of the first pixel is
    at (0.5, 0.5). Pixels take one ray, at edges four more.
    """
    height, width = image.shape[0], image.shape[1]
    m, spread = camera_to_world, 0.8 / K[0]
    seen = np.empty((height, width), np.int64)
    for again in range(2):
        for row in range(height):
            for column in range(width):
                samples = 1
                if again:
                    own, samples = seen[row, column], 4
                    if (
                        seen[row, max(column - 1, 0)] == own
                        and seen[row, min(column + 1, width - 1)] == own
                        and seen[max(row - 1, 0), column] == own
                        and seen[min(row + 1, height - 1), column] == own
                    ):
                        continue
                red, green, blue = 0.0, 0.0, 0.0
                for sample in range(samples):
                    right = 0.5 if samples == 1 else 0.25 + 0.5 * (sample % 2)
                    down = 0.5 if samples == 1 else 0.25 + 0.5 * (sample // 2)
                    x, y = (column + right - K[2]) / K[0], (row + down - K[3]) / K[1]
                    length = np.sqrt(x * x + y * y + 1)
                    dx = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / length
                    dy = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / length
                    dz = (m[2, 0] * x + m[2, 1] * y + m[2, 2]) / length
                    r, g, b, edge = _radiance(street, poses, m[0, 3], m[1, 3], m[2, 3], dx, dy, dz, spread)
                    red, green, blue = red + r / samples, green + g / samples, blue + b / samples
                    if not again:
                        seen[row, column] = edge
                image[row, column, 0], image[row, column, 1], image[row, column, 2] = red, green, blue


@compiled
def measure(street, poses, origins, directions, ranges, hits, returned):
    """Follow N beams to what they hit: distances into `ranges` (N,), solid and body into `hits` (N, 2), -1 for none.

    Each beam has the bodies where they are at its own time: `poses` (N, A, 4). `returned` (N, 2) gets the brightness
    of the surface (linear, 0 to 1) and the cosine of the angle at which it is hit.
    """
    for i in range(len(ranges)):
        o, d = origins[i], directions[i]
        look = _look(street, poses[i], o[0], o[1], o[2], d[0], d[1], d[2], 0.002)
        ranges[i], hits[i, 0], hits[i, 1] = look[3], look[4], look[5]
        returned[i, 0], returned[i, 1] = (look[0] + look[1] + look[2]) / 3, abs(look[6])
