import math

import torch

from service.engine.generation import GREEDY, Sampling
from service.model.sampling import Sampler, keep_likely, sample

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def kept(top_k: int, top_p: float) -> list[bool]:
    return torch.isfinite(keep_likely(LOGITS, top_k, top_p)).tolist()


def test_top_k_keeps_the_best() -> None:
    assert kept(2, 1.0) == [True, True, False, False]
    assert kept(0, 1.0) == [True] * 4
    assert kept(9, 1.0) == [True] * 4


def test_top_p_keeps_the_fewest_that_reach_it_and_always_one() -> None:
    assert kept(0, 0.4) == [True, False, False, False]
    assert kept(0, 0.79) == [True, True, False, False]
    assert kept(0, 0.81) == [True, True, True, False]
    assert kept(0, 1e-9) == [True, False, False, False]


def test_greedy_takes_the_best_and_tells_its_probability() -> None:
    sampled = sample(torch.stack([LOGITS, LOGITS.flip(0)]), [Sampler(GREEDY), Sampler(GREEDY)])
    assert sampled.tokens == [0, 3]
    assert all(math.isclose(each, 0.5, rel_tol=1e-5) for each in sampled.probabilities)


def test_draws_follow_the_probabilities() -> None:
    sampler = Sampler(Sampling(temperature=1.0, seed=1))
    draws = torch.stack([sampler.choose(LOGITS) for _ in range(4000)]).bincount(minlength=4) / 4000
    assert torch.allclose(draws, torch.exp(LOGITS), atol=0.03)


def test_logits_that_are_not_finite_give_a_probability_that_is_not_a_number() -> None:
    broken = torch.full((1, 4), float("nan"))
    assert math.isnan(sample(broken, [Sampler(GREEDY)]).probabilities[0])
    infinite = torch.tensor([[0.0, float("inf"), 0.0, 0.0]])
    assert math.isnan(sample(infinite, [Sampler(GREEDY)]).probabilities[0])
