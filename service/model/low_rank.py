"""What low-rank adapters add to the model's products: several at once, each to its own rows.

An adapter adds ``up @ down @ x`` to a layer's output (E. Hu and others, LoRA, 2021). The matrices of all places stand side by side, so that
rows of different adapters go through two products together; rows of none are added exact zeros, or are not touched at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours in the first dimension that have one adapter; ``place`` counts from 0."""

    rows: slice
    place: int


@dataclass(frozen=True, slots=True)
class Adapting:
    """Which rows of a product have which adapter: as runs, or as ``mask`` [rows, places] of 0 and 1."""

    runs: Sequence[Run] = ()
    mask: Tensor | None = None


def runs_of(places: Sequence[int], lengths: Sequence[int]) -> Adapting | None:
    """Of neighbours with so many rows each, and an adapter's place, counted from 1, or 0 for none. None where all have none."""
    runs, first = [], 0
    for place, alike in groupby(zip(places, lengths, strict=True), key=lambda pair: pair[0]):
        after = first + sum(length for _, length in alike)
        if place:
            runs.append(Run(slice(first, after), place - 1))
        first = after
    return Adapting(runs) if runs else None


class LowRank:
    """What the adapters of a table add to one product, which may be several layers side by side."""

    def __init__(self, places: int, rank: int, widths: tuple[int, Sequence[int]], like: tuple[torch.dtype, torch.device]) -> None:
        """``widths``: in, and out of each layer."""
        width, out = widths
        dtype, device = like
        self._rank = rank
        self._offsets = [sum(out[:index]) for index in range(len(out) + 1)]
        self._down = torch.zeros((width, places, len(out) * rank), dtype=dtype, device=device)
        self._up = torch.zeros((places, len(out) * rank, sum(out)), dtype=dtype, device=device)

    def add(self, product: Tensor, hidden: Tensor, adapting: Adapting) -> Tensor:
        """Give ``product`` [rows, .., width out], which belongs to the caller, of ``hidden`` [rows, .., width in], with what is added.

        With a mask both have two dimensions.
        """
        if adapting.mask is not None:
            low = (hidden @ self._down.flatten(1)).view(len(hidden), *self._up.shape[:2]) * adapting.mask[..., None]
            return product + low.flatten(1) @ self._up.flatten(0, 1)
        for run in adapting.runs:
            product[run.rows] += (hidden[run.rows] @ self._down[:, run.place]) @ self._up[run.place]
        return product

    def shape(self, part: int) -> tuple[int, int]:
        """Width in and out of one of the layers."""
        return self._down.shape[0], self._offsets[part + 1] - self._offsets[part]

    def write(self, place: int, part: int, down: Tensor, up: Tensor) -> None:
        """Put an adapter's ``down`` [rank, width in] and ``up`` [width out, rank] for one of the layers to its place."""
        first, rank = part * self._rank, len(down)
        self._down[:, place, first : first + rank] = down.T
        self._up[place, first : first + rank, self._offsets[part] : self._offsets[part + 1]] = up.T

    def clear(self, place: int) -> None:
        """Let a place add nothing."""
        self._down[:, place] = 0
        self._up[place] = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of a product."""

    update: LowRank
    index: int


class LowRankTable:
    """The places of a runner's adapters, and what they add to each of its products. ``places`` 0: there are none, and nothing is kept."""

    def __init__(self, places: int, rank: int, dtype: torch.dtype, device: torch.device) -> None:
        self.places = places
        self.rank = rank
        self._like = dtype, device
        self.parts: dict[str, Part] = {}
        self._updates: list[LowRank] = []

    def update(self, prefix: str, layers: Mapping[str, nn.Module]) -> LowRank | None:
        """For a product of layers side by side, known by their names behind ``prefix``."""
        if not self.places:
            return None
        widths = [(int(layer.in_features), int(layer.out_features)) for layer in layers.values()]  # type: ignore[arg-type]
        made = LowRank(self.places, self.rank, (widths[0][0], [out for _, out in widths]), self._like)
        self.parts |= {f"{prefix}.{name}": Part(made, index) for index, name in enumerate(layers)}
        self._updates.append(made)
        return made

    @torch.inference_mode()
    def put(self, place: int, modules: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Fill a place, counted from 1, with an adapter's matrices (see ``LowRank.write``), which must fit."""
        for name, (down, up) in modules.items():
            part = self.parts[name]
            part.update.write(place - 1, part.index, down, up)

    @torch.inference_mode()
    def clear(self, place: int) -> None:
        """Empty a place, counted from 1."""
        for update in self._updates:
            update.clear(place - 1)
