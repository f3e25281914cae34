"""From logits to tokens, on the logits' device; the rows are independent of one another."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from service.engine.generation import Generation, Sampling
from service.engine.grammar import Allowed, Grammar

_MOST_MASKS = 256
_GOLDEN, _MIX_ONE, _MIX_TWO, _WORD = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, (1 << 64) - 1


@dataclass(slots=True)
class Choosing:
    """How one row chooses its tokens, and how far it has come."""

    sampling: Sampling
    grammar: Grammar | None
    state: int = 0
    chosen: int = 0

    @classmethod
    def of(cls, generation: Generation) -> "Choosing":
        """For a generation at its beginning."""
        return cls(generation.sampling, generation.grammar)

    def allowed(self) -> Allowed | None:
        """What may come next; None where anything may."""
        return None if self.grammar is None else self.grammar.allowed(self.state)

    def advance(self, token: int, end_tokens: frozenset[int]) -> None:
        """The row wrote ``token``."""
        self.chosen += 1
        if self.grammar is not None and token not in end_tokens:
            self.state = self.grammar.advance(self.state, token)


@dataclass(slots=True)
class TokenMasks:
    """Masks [vocabulary] on a device, true where a token is forbidden, by what is allowed. The latest few hundred are kept."""

    vocabulary: int
    device: torch.device
    _masks: dict[Allowed, Tensor] = field(default_factory=dict)

    def forbidding_all_but(self, allowed: Allowed) -> Tensor:
        """The mask of ``allowed``."""
        mask = self._masks.pop(allowed, None)
        if mask is None:
            mask = torch.ones(self.vocabulary, dtype=torch.bool)
            for start, end in allowed.ranges:
                mask[start:end] = False
            if allowed.others:
                mask[list(allowed.others)] = False
            mask = mask.to(self.device)
        self._masks[allowed] = mask
        if len(self._masks) > _MOST_MASKS:
            del self._masks[next(iter(self._masks))]
        return mask


def choose(logits: Tensor, rows: Sequence[Choosing], masks: TokenMasks) -> tuple[Tensor, Tensor]:
    """One token for each row of ``logits`` [rows, vocabulary], and the probability that the unscaled, unmasked logits give it: [rows] each.

    The probability is NaN where a row's logits are not finite. Nothing of ``rows`` is changed, so that a failed step can be run again.
    """
    scores = logits.float()
    total = torch.logsumexp(scores, dim=-1)
    bounded = [(row, allowed) for row, allowed in enumerate(each.allowed() for each in rows) if allowed is not None]
    open_scores = scores
    if bounded:
        numbers = torch.tensor([row for row, _ in bounded], device=scores.device)
        forbidden = torch.stack([masks.forbidding_all_but(allowed) for _, allowed in bounded])
        constrained = scores[numbers].masked_fill(forbidden, float("-inf"))
        open_scores = constrained if len(bounded) == len(rows) else scores.index_copy(0, numbers, constrained)
    tokens = open_scores.argmax(dim=-1)
    for draws in _draws(rows):
        numbers = torch.tensor(draws, device=scores.device)
        tokens[numbers] = _draw(open_scores[numbers], [rows[row] for row in draws])
    probabilities = torch.exp(scores.gather(1, tokens[:, None])[:, 0] - total)
    return tokens, probabilities.masked_fill(~total.isfinite(), float("nan"))


def _draws(rows: Sequence[Choosing]) -> list[list[int]]:
    """The rows that draw their tokens: those from the whole vocabulary apart, because they are not sorted, in whatever company."""
    drawing = [row for row, each in enumerate(rows) if each.sampling.temperature > 0]
    restricted = [row for row in drawing if rows[row].sampling.top_k > 0 or rows[row].sampling.top_p < 1]
    return [each for each in (restricted, [row for row in drawing if row not in restricted]) if each]


def _draw(scores: Tensor, rows: Sequence[Choosing]) -> Tensor:
    """Tokens [rows] drawn from the softmax of ``scores`` [rows, vocabulary] at each row's temperature, within its top-k and top-p.

    First the ``top_k`` best (0 keeps all), then of these the fewest whose probabilities reach ``top_p``. The best one always stays.
    """

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=scores.device)[:, None]

    samplings = [each.sampling for each in rows]
    order = None
    scaled = scores / column([each.temperature for each in samplings])
    if any(each.top_k > 0 or each.top_p < 1 for each in samplings):
        scaled, order = torch.sort(scaled, dim=-1, descending=True)
        rank = torch.arange(scaled.shape[-1], device=scores.device)
        scaled = scaled.masked_fill(rank >= column([float(each.top_k or scaled.shape[-1]) for each in samplings]), float("-inf"))
    probabilities = torch.softmax(scaled, dim=-1)
    if order is not None:
        surplus = torch.cumsum(probabilities, dim=-1) - probabilities >= column([each.top_p for each in samplings])
        surplus[:, 0] = False
        probabilities = probabilities.masked_fill(surplus, 0.0)
    reached = torch.cumsum(probabilities, dim=-1)
    wanted = column([_uniform(each.sampling.seed, each.chosen) for each in rows]) * reached[:, -1:]
    # The first token whose share of the sum reaches beyond the wanted part; rounding must not lead to one without a share.
    place = torch.minimum((reached <= wanted).sum(-1, keepdim=True), (probabilities > 0).long().cumsum(-1).argmax(-1, keepdim=True))
    return (place if order is None else order.gather(1, place))[:, 0]


def _uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that follows from the seed and the position in the answer alone (splitmix64, Steele et al. 2014)."""
    word = (seed + (position + 1) * _GOLDEN) & _WORD
    word = ((word ^ (word >> 30)) * _MIX_ONE) & _WORD
    word = ((word ^ (word >> 27)) * _MIX_TWO) & _WORD
    # 24 bits: what float32 holds below 1.
    return float((word ^ (word >> 31)) >> 40) / (1 << 24)
