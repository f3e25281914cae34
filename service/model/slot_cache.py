"""The keys and values of all slots, as a transformers cache."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.configuration_utils import PreTrainedConfig


@dataclass(slots=True)
class StepPlan:
    """Which rows and positions the running forward writes and reads. Shared by the cache layers of all decoder layers.

    Prefill: rows ``first_row`` .. ``first_row + rows``; all positions of the prompt. Decode: rows 0..``rows``, each at its own position in
    ``positions`` [rows]; positions 0..``read`` are attended to.
    """

    prefilling: bool = True
    first_row: int = 0
    rows: int = 0
    read: int = 0
    positions: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    row_numbers: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))


class SlotLayer(CacheLayerMixin):
    """Keys and values of one decoder layer: [slots, KV heads, max length, head dimension]."""

    is_compileable = True
    is_sliding = False

    def __init__(self, plan: StepPlan, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.plan = plan
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.is_initialized = True

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the table is made whole at the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write [rows, KV heads, new positions, head dimension]; returns what the running forward attends to."""
        plan = self.plan
        if plan.prefilling:
            rows, length = slice(plan.first_row, plan.first_row + plan.rows), key_states.shape[2]
            self.keys[rows, :, :length] = key_states
            self.values[rows, :, :length] = value_states
            return key_states, value_states
        self.keys[plan.row_numbers, :, plan.positions] = key_states[:, :, 0]
        self.values[plan.row_numbers, :, plan.positions] = value_states[:, :, 0]
        return self.keys[: plan.rows, :, : plan.read], self.values[: plan.rows, :, : plan.read]

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Masks are made by the runner; transformers only asks."""
        return self.plan.read, 0

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Positions are given by the runner; transformers only asks."""
        return 0

    def get_max_cache_shape(self) -> int:
        """Positions per slot."""
        return int(self.keys.shape[2])

    def get_max_length(self) -> int:
        """Positions per slot."""
        return int(self.keys.shape[2])


class SlotCache(Cache):
    """One row of keys and values per slot and layer. ``plan`` says what the next forward writes and reads."""

    def __init__(self, config: PreTrainedConfig, slots: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        self.plan = StepPlan()
        shape = (slots, config.num_key_value_heads, length, config.head_dim)
        super().__init__(layers=[SlotLayer(self.plan, shape, dtype, device) for _ in range(config.num_hidden_layers)])

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of one row to another."""
        for layer in self.layers:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]
