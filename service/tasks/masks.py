"""Masks as answers carry them: run lengths, a PNG, or polygons."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from service.tasks.results import EncodedMask, Mask, MaskFormat, PngMask, PolygonMask, RleMask


def encode_mask(mask: Mask, mask_format: MaskFormat) -> EncodedMask:
    """Write a mask [height, width] in the form the caller asked for."""
    match mask_format:
        case MaskFormat.RLE:
            return _run_lengths(mask)
        case MaskFormat.PNG:
            return _png(mask)
        case MaskFormat.POLYGON:
            return PolygonMask(_outlines(mask))


def decode_mask(mask: RleMask) -> Mask:
    """Read run lengths back into [height, width]."""
    return np.asarray(coco.decode({"size": list(mask.size), "counts": mask.counts.encode("ascii")})).astype(np.bool_)


def _run_lengths(mask: Mask) -> RleMask:
    height, width = mask.shape
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return RleMask(size=(height, width), counts=encoded["counts"].decode("ascii"))


def _png(mask: Mask) -> PngMask:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return PngMask(file.getvalue())


def _outlines(mask: Mask) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Follow the outer outline of every region, clockwise along the edges of pixels, corners only.

    Pixels that touch at a corner only belong to two regions. Without holes, the outlines filled are the mask exactly.
    """
    rows, columns, across, along = _corners(mask)
    points = list(zip(columns.tolist(), rows.tolist(), strict=True))
    horizontal, vertical = across.tolist(), along.tolist()
    visited = bytearray(len(points))
    outlines = []
    for start, (x, y) in enumerate(points):
        if visited[start]:
            continue
        outline: list[tuple[int, int]] = []
        corner = start
        while not visited[corner]:
            neighbour = horizontal[corner]
            visited[corner] = visited[neighbour] = 1
            outline += (points[corner], points[neighbour])
            corner = vertical[neighbour]
        # The first corner of a cycle in reading order is its top left one: inside the mask for a region, outside for a hole.
        if mask[y, x]:
            outlines.append(tuple((float(x), float(y)) for x, y in outline))
    return tuple(outlines)


def _corners(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Find all corners of the outlines, in reading order: row, column, and the indices of the corners that edges across and along lead to.

    Along any row, and any column, the corners pair up, first with second, third with fourth: the edges between regions lie between. A point
    where two regions touch diagonally is two corners, one for each region.
    """
    framed = np.pad(mask, 1)
    above_left, above_right, below_left, below_right = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    touching = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    is_corner = (above_left ^ above_right ^ below_left ^ below_right) | touching
    rows, columns = np.nonzero(is_corner)
    doubled = touching[rows, columns]
    # Of a double corner, the first copy ends the edge from the left. It belongs to the region above left, or else to the one below left.
    below = doubled & ~above_left[rows, columns]
    repeats = 1 + doubled
    second = np.zeros(int(repeats.sum()), dtype=np.bool_)
    second[np.cumsum(repeats)[doubled] - 1] = True
    rows, columns, below = np.repeat(rows, repeats), np.repeat(columns, repeats), np.repeat(below, repeats)
    across = np.arange(len(rows)) ^ 1
    column_order = np.lexsort((second ^ below, rows, columns))
    along = np.empty_like(column_order)
    along[column_order[0::2]] = column_order[1::2]
    along[column_order[1::2]] = column_order[0::2]
    return rows, columns, across, along
