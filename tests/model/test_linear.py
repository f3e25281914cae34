"""Products of linear layers, packed and not."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.linear import Projection, packs, project, project_gated
from service.model.low_rank import LowRankTable

Make = Callable[[list[nn.Module], bool], Projection]


class Doubled(nn.Linear):
    """A kind of layer whose weights mean something else."""

    def forward(self, hidden: Tensor) -> Tensor:
        return 2 * super().forward(hidden)


def layers(kind: type[nn.Linear] = nn.Linear, bias: bool = True, dtype: torch.dtype = torch.float32) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(24, 40, bias=bias).to(dtype), kind(24, 40, bias=bias).to(dtype)]


def gelu(hidden: Tensor) -> Tensor:
    return F.gelu(hidden, approximate="tanh")


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [nn.Linear, Doubled])
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 130, 24)])
@torch.inference_mode()
def test_products_are_those_of_the_layers(pack: bool, bias: bool, kind: type[nn.Linear], shape: tuple[int, ...]) -> None:
    made, hidden = layers(kind, bias), torch.randn(shape)
    one, other = copy.deepcopy(made)
    joined = torch.cat([one(hidden), other(hidden)], dim=-1)
    assert torch.allclose(project(copy.deepcopy(made), pack)(hidden), joined, atol=1e-5)
    assert torch.allclose(project(copy.deepcopy(made), pack, gelu=True)(hidden), gelu(joined), atol=1e-5)
    assert torch.allclose(project(copy.deepcopy(made[1:]), pack, gelu=True)(hidden), gelu(other(hidden)), atol=1e-5)
    gate, up = copy.deepcopy(made)
    gated = project_gated(gate, up, pack, LowRankTable(0, 0, torch.float32, torch.device("cpu")), "text.0")
    assert torch.allclose(gated(hidden), gelu(one(hidden)) * other(hidden), atol=1e-5)


@pytest.mark.skipif(not packs(torch.zeros(1, dtype=torch.bfloat16)), reason="no packed bfloat16 here")
@torch.inference_mode()
def test_bfloat16_is_packed_too() -> None:
    made, hidden = layers(dtype=torch.bfloat16), torch.randn(5, 24, dtype=torch.bfloat16)
    exact = torch.cat([copy.deepcopy(each).float()(hidden.float()) for each in made], dim=-1)
    assert (project(made, pack=True)(hidden).float() - exact).abs().max() < 2**-7 * exact.abs().max()


@pytest.mark.parametrize("pack", [False, True])
def test_plain_layers_give_up_their_weights_so_that_nothing_is_held_twice(pack: bool) -> None:
    made = layers()
    project(made, pack)
    assert [weight.numel() for each in made for weight in (each.weight,) if isinstance(weight, Tensor)] == [0, 0]


def test_layers_of_another_kind_keep_theirs() -> None:
    made = layers(Doubled)
    project(made, pack=True)
    assert [weight.numel() for each in made for weight in (each.weight,) if isinstance(weight, Tensor)] == [960, 960]


def test_what_no_packed_product_exists_for_is_not_packed() -> None:
    assert not packs(torch.zeros(1, dtype=torch.float16))
    assert not packs(torch.zeros(1, device="meta"))
