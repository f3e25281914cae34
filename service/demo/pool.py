"""A pool of drawn scenes on disk, with what each patch of them shows: training draws its questions afresh but not its pictures."""

import multiprocessing
import pickle
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from service.demo.codec import MaskCodec
from service.demo.network import PATCH, SIDE
from service.demo.scenes import COLOURS, SHAPES, Scene, SceneKind, Sign, Thing, draw_scene, font, make_scene, mask_in_box

CHUNK = 500
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SIGN = len(SHAPES) + 1
NOTHING = 0


@dataclass(frozen=True, slots=True)
class PatchMaps:
    """What each patch shows, [scenes, patches]: shape (0 nothing, 1.., ``SIGN``) and colour (0 none).

    ``box`` [.., 4] in parts of the side; ``characters`` [.., 2] of its left and right half (0 none).
    """

    shape: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    box: NDArray[np.float16]
    characters: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Canvas:
    """How scenes are made and drawn: ``side`` pixels, things and type between what parts of their usual size.

    ``averaged``: every other one is drawn twice as large and made smaller, as most pictures are that reach a model.
    """

    side: int = SIDE
    zoom: tuple[float, float] = (1.0, 1.0)
    averaged: bool = False

    @property
    def grid(self) -> int:
        """Patches in a row."""
        return self.side // PATCH

    def draw(self, scene: Scene, number: int) -> NDArray[np.uint8]:
        """The ``number``-th picture, [side, side, 3]."""
        if self.averaged and number % 2:
            return np.asarray(draw_scene(scene, 2 * self.side, from_stock=True).reduce(2))
        return np.asarray(draw_scene(scene, self.side, from_stock=True))


@dataclass(frozen=True, slots=True)
class Pool:
    """``pictures`` [scenes, side, side, 3] on disk; ``codes`` holds the mask codes of every thing of a scene, in order."""

    scenes: list[Scene]
    codes: list[list[tuple[int, ...]]]
    maps: PatchMaps
    pictures: NDArray[np.uint8]

    @property
    def grid(self) -> int:
        """Patches in a row of a picture."""
        return int(self.pictures.shape[1]) // PATCH


def _draw_chunk(
    folder: Path, canvas: Canvas, count: int, seed: int, chunk: int
) -> tuple[list[Scene], list[NDArray[np.uint8]], list[tuple[NDArray[np.generic], ...]]]:
    rng = np.random.default_rng([seed, chunk])
    pictures = np.memmap(folder / "pictures.u8", np.uint8, "r+", shape=(count, canvas.side, canvas.side, 3))
    scenes: list[Scene] = []
    masks: list[NDArray[np.uint8]] = []
    maps: list[tuple[NDArray[np.generic], ...]] = []
    for index in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
        scene = make_scene(rng, SceneKind(sign_share=0.36, zoom=canvas.zoom))
        pictures[index] = canvas.draw(scene, index)
        scenes.append(scene)
        masks.append(np.stack([mask_in_box(thing) for thing in scene.things]) if scene.things else np.zeros((0, 64, 64), np.uint8))
        maps.append(patch_maps(scene, canvas.grid))
    return scenes, masks, maps


def make_pool(folder: Path, canvas: Canvas, count: int, seed: int, codec: MaskCodec, processes: int) -> None:
    """Draw ``count`` scenes into ``folder``; does nothing where they are there already."""
    if (folder / "scenes.pickle").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    np.memmap(folder / "pictures.u8", np.uint8, "w+", shape=(count, canvas.side, canvas.side, 3)).flush()
    chunks = range(-(-count // CHUNK))
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        parts = list(tqdm(workers.imap(partial(_draw_chunk, folder, canvas, count, seed), chunks), total=len(chunks), desc="scenes"))
    scenes = [scene for part in parts for scene in part[0]]
    codes = []
    for part in tqdm(parts, desc="codes"):
        flat = codec.encode(torch.from_numpy(np.concatenate(part[1]))).tolist()
        codes += [[tuple(flat.pop(0)) for _ in range(len(masks))] for masks in part[1]]
    columns = [np.stack(column) for column in zip(*(each for part in parts for each in part[2]), strict=True)]
    np.savez(folder / "maps.npz", shape=columns[0], colour=columns[1], box=columns[2], characters=columns[3])
    unfinished = folder / "scenes.partial"
    unfinished.write_bytes(pickle.dumps((scenes, codes)))
    unfinished.rename(folder / "scenes.pickle")


def open_pool(folder: Path) -> Pool:
    """Read what ``make_pool`` wrote."""
    scenes, codes = pickle.loads((folder / "scenes.pickle").read_bytes())  # noqa: S301 (written by the line above, on this machine)
    maps = np.load(folder / "maps.npz")
    side = round(maps["shape"].shape[1] ** 0.5) * PATCH
    pictures = np.memmap(folder / "pictures.u8", np.uint8, "r", shape=(len(scenes), side, side, 3))
    return Pool(scenes, codes, PatchMaps(maps["shape"], maps["colour"], maps["box"], maps["characters"]), pictures)


def patch_maps(scene: Scene, grid: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float16], NDArray[np.uint8]]:
    """``PatchMaps`` of one scene. A patch shows what covers more than 0.3 of it; the patch in a thing's middle always shows that thing."""
    shape, colour = np.zeros((grid, grid), np.uint8), np.zeros((grid, grid), np.uint8)
    box, best = np.zeros((grid, grid, 4), np.float16), np.zeros((grid, grid))
    located: list[Thing | Sign] = [*scene.things, *([scene.sign] if scene.sign else [])]
    for each in located:
        y_min, x_min, y_max, x_max = each.box
        covered = _covered(y_min, y_max, grid)[:, None] * _covered(x_min, x_max, grid)[None]
        covered[int((y_min + y_max) / 2 * grid), int((x_min + x_max) / 2 * grid)] = 1
        seen = (covered > 0.3) & (covered > best)
        best[seen] = covered[seen]
        shape[seen] = SHAPES.index(each.shape) + 1 if isinstance(each, Thing) else SIGN
        colour[seen] = tuple(COLOURS).index(each.colour) + 1 if isinstance(each, Thing) else NOTHING
        box[seen] = each.box
    characters = _character_map(scene.sign, grid) if scene.sign else np.zeros((grid, grid, 2), np.uint8)
    return shape.ravel(), colour.ravel(), box.reshape(-1, 4), characters.reshape(-1, 2)


def _covered(low: float, high: float, grid: int) -> NDArray[np.float64]:
    """[grid]: the part of each row or column of patches that lies between ``low`` and ``high``."""
    edges = np.arange(grid) / grid
    covered: NDArray[np.float64] = np.clip(np.minimum(edges + 1 / grid, high) - np.maximum(edges, low), 0, None) * grid
    return covered


def character_patches(sign: Sign, grid: int) -> list[NDArray[np.bool_]]:
    """[patches] for each character of a sign: the patches that show it, those in the sign's row that it overlaps most of all."""
    edges, rows = _text_place(sign, grid)
    patches = []
    for low, high in pairwise(edges):
        across = _covered(low, high, grid)
        shown = np.zeros((grid, grid), np.bool_)
        shown[np.ix_(rows, np.nonzero(across > 0.5 * across.max())[0])] = True
        patches.append(shown.ravel())
    return patches


def _text_place(sign: Sign, grid: int) -> tuple[list[float], NDArray[np.intp]]:
    """Where each character begins (and the last one ends), in parts of the side; and the rows of patches that the text fills."""
    side, text = grid * PATCH, sign.text
    face = font(sign.size * side)
    middle = (sign.box[1] + sign.box[3]) / 2
    left = middle - face.getlength(text) / side / 2
    edges = [left + face.getlength(text[:index]) / side for index in range(len(text) + 1)]
    centre, half = (sign.box[0] + sign.box[2]) / 2, 0.36 * sign.size
    return edges, np.nonzero(_covered(centre - half, centre + half, grid) / grid / min(1 / grid, 2 * half) > 0.4)[0]


def _character_map(sign: Sign, grid: int) -> NDArray[np.uint8]:
    edges, rows = _text_place(sign, grid)
    characters = np.zeros((grid, grid, 2), np.uint8)
    for column in range(grid):
        for side in range(2):
            x = (column + 0.25 + 0.5 * side) / grid
            for character, (low, high) in zip(sign.text, pairwise(edges), strict=True):
                if low <= x < high:
                    characters[rows, column, side] = CHARACTERS.index(character) + 1
    return characters
