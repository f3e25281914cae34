"""The keys and values of all slots."""

import torch
from torch import Tensor


class KeyValueTable:
    """One row of keys and values per slot and layer: [layers, 2, slots, KV heads, positions, head dimension].

    Zeroed: what was never written is masked, but has to be finite.
    """

    def __init__(self, layers: int, slots: int, row: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        """``row``: KV heads, positions, head dimension."""
        self._table = torch.zeros((layers, 2, slots, *row), dtype=dtype, device=device)
        self._layers = [tuple(layer.unbind(0)) for layer in self._table.unbind(0)]

    def write_prefix(self, layer: int, first_slot: int, key: Tensor, value: Tensor) -> None:
        """Fill the slots from ``first_slot`` on with keys and values [rows, KV heads, positions, dim], from position 0."""
        rows, positions = slice(first_slot, first_slot + key.shape[0]), slice(0, key.shape[2])
        keys, values = self._layers[layer]
        keys[rows, :, positions] = key
        values[rows, :, positions] = value

    def write_next(self, layer: int, slots: Tensor, positions: Tensor, key: Tensor, value: Tensor) -> None:
        """Write one position of each of ``slots`` [rows], at ``positions`` [rows]: keys and values [rows, KV heads, dim]."""
        keys, values = self._layers[layer]
        keys[slots, :, positions] = key
        values[slots, :, positions] = value

    def read(self, layer: int, slots: slice, positions: int) -> tuple[Tensor, Tensor]:
        """Keys and values [rows, KV heads, positions, dim] of a run of slots. No copy."""
        keys, values = self._layers[layer]
        return keys[slots, :, :positions], values[slots, :, :positions]

    def move(self, source: int, target: int, positions: int) -> None:
        """Copy the first ``positions`` of one slot to another, in all layers at once."""
        self._table[:, :, target, :, :positions] = self._table[:, :, source, :, :positions]
