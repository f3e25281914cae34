"""Muon for matrices, AdamW for the rest; and how several processes share one step."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any, Protocol

import torch
from torch import Tensor, nn

CLIP = 1.0
"""Largest norm of a step's gradient."""


class Barrier(Protocol):
    """What ``multiprocessing.Barrier`` does."""

    def wait(self, timeout: float | None = None) -> int: ...


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by Newton-Schulz steps in float32. Matrices of one shape are done together.

    The coefficients and the scale are those published with Muon (K. Jordan and others, 2024; Moonshot AI, 2025).
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float = 0.02, momentum: float = 0.95, rounds: int = 3) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "rounds": rounds})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                    mean.lerp_(matrix.grad, 1 - group["momentum"])
                    by_shape[matrix.shape].append((matrix, matrix.grad.lerp(mean, group["momentum"])))
            for shape, pairs in by_shape.items():
                moves = _orthogonal(torch.stack([move for _, move in pairs]), group["rounds"])
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for (matrix, _), move in zip(pairs, moves, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(move, alpha=-rate)


def _orthogonal(matrices: Tensor, rounds: int) -> Tensor:
    """[n, rows, columns]: every singular value brought near 1."""
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = wide @ wide.mT
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    orthogonal: Tensor = wide.mT if matrices.shape[1] > matrices.shape[2] else wide
    return orthogonal


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates at their height."""

    matrices: float
    rest: float


@dataclass(slots=True)
class Together:
    """What the processes of one training share: gradients [processes, parameters] and squared norms [processes], in shared memory."""

    rank: int
    processes: int
    gradients: Tensor
    norms: Tensor
    barrier: Barrier


class SharedOptimiser:
    """One process's part of a common step: every process adds its gradients, each updates its own share of the shared parameters."""

    def __init__(self, module: nn.Module, together: Together, rates: Rates) -> None:
        self._together = together
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        names = {parameter: name for name, parameter in module.named_parameters()}
        self._offsets: list[int] = []
        total = 0
        for parameter in self._parameters:
            self._offsets.append(total)
            total += parameter.numel()
        self._own = _share(self._parameters, together.rank, together.processes)
        own = [self._parameters[index] for index in self._own]
        matrices = [each for each in own if each.ndim == 2 and "embed" not in names[each] and "patch_head" not in names[each]]
        rest = [each for each in own if all(each is not matrix for matrix in matrices)]
        self._optimisers: list[torch.optim.Optimizer] = []
        if matrices:
            self._optimisers.append(Muon(matrices, lr=rates.matrices))
        groups = [
            {"params": [each for each in rest if each.ndim >= 2], "weight_decay": 0.02},
            {"params": [each for each in rest if each.ndim < 2], "weight_decay": 0.0},
        ]
        if rest:
            self._optimisers.append(torch.optim.AdamW([group for group in groups if group["params"]], lr=rates.rest, betas=(0.9, 0.98)))
        self._heights = [[group["lr"] for group in optimiser.param_groups] for optimiser in self._optimisers]

    def step(self, part_of_rate: float) -> None:
        """After every process's backward: average, clip, update. Errors: BrokenBarrierError where another process died."""
        together = self._together
        mine = together.gradients[together.rank]
        for parameter, offset in zip(self._parameters, self._offsets, strict=True):
            place = mine[offset : offset + parameter.numel()].view_as(parameter)
            if parameter.grad is None:
                place.zero_()
            else:
                place.copy_(parameter.grad)
        together.barrier.wait()
        squares = 0.0
        for index in self._own:
            parameter, offset = self._parameters[index], self._offsets[index]
            mean = together.gradients[:, offset : offset + parameter.numel()].mean(dim=0)
            parameter.grad = mean.view_as(parameter)
            squares += float(mean.pow(2).sum())
        together.norms[together.rank] = squares
        together.barrier.wait()
        scale = min(1.0, CLIP / (float(together.norms.sum()) ** 0.5 + 1e-6))
        for index in self._own:
            gradient = self._parameters[index].grad
            if gradient is not None:
                gradient.mul_(scale)
        for optimiser, heights in zip(self._optimisers, self._heights, strict=True):
            for group, height in zip(optimiser.param_groups, heights, strict=True):
                group["lr"] = height * part_of_rate
            optimiser.step()
        for parameter in self._parameters:
            parameter.grad = None
        together.barrier.wait()

    def state(self) -> list[dict[str, Any]]:
        """What ``restore`` needs."""
        return [optimiser.state_dict() for optimiser in self._optimisers]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on where ``state`` was taken; the same number of processes is needed."""
        for optimiser, saved in zip(self._optimisers, state, strict=True):
            optimiser.load_state_dict(saved)


def _share(parameters: Sequence[Tensor], rank: int, processes: int) -> list[int]:
    """Indices of this process's parameters: parameters of one shape stay together in runs, and the shares weigh about the same."""
    order = sorted(range(len(parameters)), key=lambda index: (tuple(parameters[index].shape), index))
    total = sum(parameter.numel() for parameter in parameters)
    shares: list[list[int]] = [[] for _ in range(processes)]
    weight, share = 0, 0
    for index in order:
        if weight >= (share + 1) * total / processes and share + 1 < processes:
            share += 1
        shares[share].append(index)
        weight += parameters[index].numel()
    return shares[rank]


__all__ = ["BrokenBarrierError", "Muon", "Rates", "SharedOptimiser", "Together"]
