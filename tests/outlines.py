"""Outlines of masks, filled pixel by pixel: slow, and plainly right."""

import numpy as np

from service.tasks.results import Mask

Polygons = tuple[tuple[tuple[float, float], ...], ...]


def filled(polygons: Polygons, height: int, width: int) -> Mask:
    """Every pixel whose centre lies in an odd number of turns of one of the polygons, asked edge by edge."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    union = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        inside = np.zeros((height, width), dtype=np.bool_)
        for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            if y1 != y2:
                inside ^= (np.minimum(y1, y2) < y) & (y < np.maximum(y1, y2)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        union |= inside
    return union


def without_holes(mask: Mask) -> Mask:
    """The mask and all background that does not reach the frame, where background also connects diagonally."""
    framed = np.pad(mask, 1)
    outside = np.zeros_like(framed)
    todo = [(0, 0)]
    while todo:
        row, column = todo.pop()
        if 0 <= row < framed.shape[0] and 0 <= column < framed.shape[1] and not framed[row, column] and not outside[row, column]:
            outside[row, column] = True
            todo += [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return ~outside[1:-1, 1:-1]


def area(polygon: tuple[tuple[float, float], ...]) -> float:
    following = (*polygon[1:], polygon[0])
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(polygon, following, strict=True)) / 2
