"""The grounds that scenes stand on: six kinds of muted patterns."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def draw_ground(seed: int, side: int) -> NDArray[np.uint8]:
    """A ground [side, side, 3]: plain, graded, striped, chequered, cloudy or grainy."""
    rng = np.random.default_rng(seed)
    level = rng.integers(95, 205) + rng.integers(-28, 29, 3).astype(np.float32)
    kind = rng.integers(6)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = rng.uniform(0, 2 * math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    if kind == 0:
        field: NDArray[np.floating] = np.zeros((side, side), np.float32)
    elif kind == 1:
        field = along - along.mean()
    elif kind == 2:
        field = 0.5 * np.sin(rng.uniform(20, 60) * along)
    elif kind == 3:
        squares = rng.integers(3, 10)
        field = ((np.floor(x * squares) + np.floor(y * squares)) % 2 - 0.5).astype(np.float32)
    else:
        cells, filtering, strength = (8, Image.Resampling.BICUBIC, 0.4) if kind == 4 else (112, Image.Resampling.NEAREST, 0.25)
        noise = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        field = np.asarray(noise.resize((side, side), filtering)) * strength
    swing = rng.uniform(10, 45) * rng.choice([-1, 1]) * (1 + 0.3 * rng.normal(size=3)).astype(np.float32)
    ground: NDArray[np.uint8] = np.clip(level + field[..., None] * swing, 0, 255).astype(np.uint8)
    return ground


@lru_cache(maxsize=256)
def _stock_ground(seed: int, side: int) -> NDArray[np.uint8]:
    return draw_ground(seed, side)


def stock_ground(seed: int, side: int, stock: int = 192) -> NDArray[np.uint8]:
    """One of ``stock`` grounds, mirrored or turned: training draws many scenes, and drawing a ground costs most of a scene's time."""
    ground, ways = _stock_ground(seed % stock, side), seed // stock
    if ways & 1:
        ground = ground[::-1]
    if ways & 2:
        ground = ground[:, ::-1]
    if ways & 4:
        ground = ground.transpose(1, 0, 2)
    return np.ascontiguousarray(ground)
