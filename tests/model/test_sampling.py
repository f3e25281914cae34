import math
from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from service.engine.generation import GREEDY, Sampling
from service.engine.grammar import Allowed
from service.model.sampling import Choosing, TokenMasks, choose

PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.05])
LOGITS = torch.log(PROBABILITIES)
MASKS = TokenMasks(4, torch.device("cpu"))


class OnlyThese:
    """A grammar that always allows the same."""

    def __init__(self, *allowed: int) -> None:
        self._allowed = Allowed((), allowed)

    def allowed(self, state: int) -> Allowed:
        return self._allowed

    def advance(self, state: int, token: int) -> int:
        return state + token


def drawn(sampling: Sampling, count: int = 4000) -> list[float]:
    """How often each token is drawn along one answer."""
    rows = [Choosing(sampling, None, chosen=position) for position in range(count)]
    tokens, _ = choose(LOGITS.expand(count, -1), rows, MASKS)
    return [float(share) for share in tokens.bincount(minlength=4) / count]


def close(found: list[float], wanted: list[float]) -> bool:
    return all(math.isclose(one, other, abs_tol=0.03) for one, other in zip(found, wanted, strict=True))


def test_greedy_takes_the_best_and_tells_its_probability() -> None:
    tokens, probabilities = choose(torch.stack([LOGITS, LOGITS.flip(0)]), [Choosing(GREEDY, None)] * 2, MASKS)
    assert tokens.tolist() == [0, 3]
    assert torch.allclose(probabilities, torch.tensor([0.5, 0.5]))


def test_draws_follow_the_probabilities() -> None:
    assert close(drawn(Sampling(temperature=1.0, seed=1)), [0.5, 0.3, 0.15, 0.05])
    cold = torch.softmax(LOGITS / 0.5, -1).tolist()
    assert close(drawn(Sampling(temperature=0.5, seed=2)), cold)


def test_top_k_keeps_the_best() -> None:
    assert close(drawn(Sampling(1.0, top_k=2, seed=3)), [0.625, 0.375, 0, 0])
    assert close(drawn(Sampling(1.0, top_k=9, seed=3)), PROBABILITIES.tolist())


def test_top_p_keeps_the_fewest_that_reach_it_and_always_one() -> None:
    assert drawn(Sampling(1.0, top_p=0.4, seed=4), 100) == [1, 0, 0, 0]
    assert drawn(Sampling(1.0, top_p=1e-9, seed=4), 100) == [1, 0, 0, 0]
    assert close(drawn(Sampling(1.0, top_p=0.79, seed=4)), [0.625, 0.375, 0, 0])
    assert close(drawn(Sampling(1.0, top_p=0.81, seed=4)), [0.526, 0.316, 0.158, 0])


def test_top_p_counts_what_top_k_left() -> None:
    assert drawn(Sampling(1.0, top_k=2, top_p=0.6, seed=5), 100) == [1, 0, 0, 0]


def test_the_probability_is_that_of_the_unscaled_logits() -> None:
    tokens, probabilities = choose(LOGITS[None], [Choosing(Sampling(2.0, top_k=2, seed=8), None)], MASKS)
    assert torch.allclose(probabilities, PROBABILITIES[tokens])


@given(st.integers(0, 2**63), st.integers(1, 8), st.floats(0.1, 1.0), st.integers(0, 4))
def test_a_row_draws_the_same_in_any_company(seed: int, others: int, top_p: float, top_k: int) -> None:
    mine = Choosing(Sampling(1.0, top_p, top_k, seed), None, chosen=7)
    alone, _ = choose(LOGITS[None], [mine], MASKS)
    company = [
        Choosing(Sampling(temperature=index % 3, top_k=index % 2, seed=index), OnlyThese(index % 4) if index % 2 else None)
        for index in range(others)
    ]
    together, _ = choose(LOGITS.expand(others + 1, -1), [*company, mine], MASKS)
    assert together[-1] == alone[0]


def test_a_grammar_leaves_the_best_of_what_it_allows() -> None:
    rows = [Choosing(GREEDY, OnlyThese(2, 3)), Choosing(GREEDY, None)]
    tokens, probabilities = choose(LOGITS.expand(2, -1), rows, MASKS)
    assert tokens.tolist() == [2, 0]
    assert torch.allclose(probabilities, torch.tensor([0.15, 0.5]))


def test_draws_stay_within_the_grammar() -> None:
    rows = [Choosing(Sampling(5.0, seed=seed), OnlyThese(1, 3)) for seed in range(200)]
    tokens, _ = choose(LOGITS.expand(200, -1), rows, MASKS)
    assert set(tokens.tolist()) == {1, 3}


def test_choosing_again_gives_the_same_and_advancing_moves_the_automaton() -> None:
    row = Choosing(Sampling(1.0, seed=3), OnlyThese(1, 2))
    assert choose(LOGITS[None], [row], MASKS)[0] == choose(LOGITS[None], [replace(row)], MASKS)[0]
    row.advance(2, frozenset({0}))
    assert (row.state, row.chosen) == (2, 1)
    row.advance(0, frozenset({0}))
    assert row.state == 2


def test_masks_are_kept_for_the_latest_only() -> None:
    masks = TokenMasks(1000, torch.device("cpu"))
    first = masks.forbidding_all_but(Allowed(((10, 20), (30, 40)), (5,)))
    assert (~first).nonzero()[:, 0].tolist() == [5, *range(10, 20), *range(30, 40)]
    assert masks.forbidding_all_but(Allowed(((10, 20), (30, 40)), (5,))) is first
    for token in range(300):
        masks.forbidding_all_but(Allowed((), (token,)))
    assert masks.forbidding_all_but(Allowed(((10, 20), (30, 40)), (5,))) is not first


def test_logits_that_are_not_finite_give_a_probability_that_is_not_a_number() -> None:
    for broken in ([math.nan] * 4, [0.0, math.inf, 0.0, 0.0]):
        for sampling in (GREEDY, Sampling(1.0, seed=1)):
            _, probabilities = choose(torch.tensor([broken]), [Choosing(sampling, None)], MASKS)
            assert math.isnan(probabilities[0])
