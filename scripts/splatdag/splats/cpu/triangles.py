"""Triangles in an image: the one that each pixel's centre lies in."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def cover_triangles(corners: np.ndarray, cover: np.ndarray) -> None:
    """Write into cover [H, W] which triangle of corners [T, 3, 2] each pixel's centre lies in."""
    height, width = cover.shape
    for number in range(len(corners)):
        (x0, y0), (x1, y1), (x2, y2) = corners[number]
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if area == 0:
            continue
        left, right = min(x0, x1, x2), max(x0, x1, x2)
        top, bottom = min(y0, y1, y2), max(y0, y1, y2)
        for row in range(max(0, int(np.ceil(top - 0.5))), min(height - 1, int(np.floor(bottom - 0.5))) + 1):
            for column in range(max(0, int(np.ceil(left - 0.5))), min(width - 1, int(np.floor(right - 0.5))) + 1):
                x, y = column + 0.5, row + 0.5
                a = ((x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)) / area
                b = ((x2 - x) * (y0 - y) - (y2 - y) * (x0 - x)) / area
                if a >= 0 and b >= 0 and a + b <= 1:
                    cover[row, column] = number
