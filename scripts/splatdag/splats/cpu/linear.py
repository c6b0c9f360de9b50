"""Three-vectors and 3x3 matrices as tuples, for numba kernels: no allocation, all inlined."""

# mypy: ignore-errors

from numba import njit


@njit(cache=True)
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def combine(p, a, q, b):
    """p·a + q·b."""
    return (p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2])


@njit(cache=True)
def matrix_vector(m, a):
    return (dot(m[0], a), dot(m[1], a), dot(m[2], a))


@njit(cache=True)
def transpose(m):
    return (
        (m[0][0], m[1][0], m[2][0]),
        (m[0][1], m[1][1], m[2][1]),
        (m[0][2], m[1][2], m[2][2]),
    )


@njit(cache=True)
def matrix_matrix(a, b):
    t = transpose(b)
    return (matrix_vector(t, a[0]), matrix_vector(t, a[1]), matrix_vector(t, a[2]))


@njit(cache=True)
def scale_columns(m, s):
    """m·diag(s)."""
    return (
        (m[0][0] * s[0], m[0][1] * s[1], m[0][2] * s[2]),
        (m[1][0] * s[0], m[1][1] * s[1], m[1][2] * s[2]),
        (m[2][0] * s[0], m[2][1] * s[1], m[2][2] * s[2]),
    )


@njit(cache=True)
def rotation(w, x, y, z):
    """Rotation matrix of a unit quaternion."""
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@njit(cache=True)
def rotation_gradient(w, x, y, z, g):
    """Gradient of the quaternion (w, x, y, z), from `g`, the gradient of `rotation`."""
    return (
        2.0 * (x * (g[2][1] - g[1][2]) + y * (g[0][2] - g[2][0]) + z * (g[1][0] - g[0][1])),
        2.0 * (y * (g[0][1] + g[1][0]) + z * (g[0][2] + g[2][0]) + w * (g[2][1] - g[1][2]))
        - 4.0 * x * (g[1][1] + g[2][2]),
        2.0 * (x * (g[0][1] + g[1][0]) + z * (g[1][2] + g[2][1]) + w * (g[0][2] - g[2][0]))
        - 4.0 * y * (g[0][0] + g[2][2]),
        2.0 * (x * (g[0][2] + g[2][0]) + y * (g[1][2] + g[2][1]) + w * (g[1][0] - g[0][1]))
        - 4.0 * z * (g[0][0] + g[1][1]),
    )
