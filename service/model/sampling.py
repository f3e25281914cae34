"""From logits to tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.engine.generation import Sampling
from service.engine.runner import Sampled


@dataclass(slots=True)
class Sampler:
    """How one row chooses its tokens. The noise comes from the row's own generator, so that its company changes nothing."""

    sampling: Sampling
    noise: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.sampling.temperature > 0:
            self.noise = torch.Generator().manual_seed(self.sampling.seed)

    def choose(self, logits: Tensor) -> Tensor:
        """One token for a row's ``logits`` [vocabulary]; a scalar on their device."""
        if self.noise is None:
            return logits.argmax()
        kept = keep_likely(logits.float() / self.sampling.temperature, self.sampling.top_k, self.sampling.top_p)
        # Gumbel-max: argmax of logits plus Gumbel noise is a draw from their softmax.
        uniform = torch.rand(kept.shape, generator=self.noise).to(kept.device)
        return (kept - torch.log(-torch.log(uniform))).argmax()


def keep_likely(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set all but the likely ones of ``logits`` [vocabulary] to -inf.

    First the ``top_k`` best (0 keeps all), then of these the fewest whose probabilities reach ``top_p``. The best one always stays.
    """
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < torch.topk(logits, top_k).values[-1], float("-inf"))
    if top_p < 1:
        ordered, order = torch.sort(logits, descending=True)
        probabilities = torch.softmax(ordered, dim=-1)
        surplus = torch.cumsum(probabilities, dim=-1) - probabilities >= top_p
        surplus[0] = False
        logits = logits.masked_fill(torch.zeros_like(surplus).scatter(0, order, surplus), float("-inf"))
    return logits


def sample(logits: Tensor, samplers: Sequence[Sampler]) -> Sampled:
    """One token for each row of ``logits`` [rows, vocabulary], and the probability that the unscaled logits give it."""
    tokens = logits.argmax(dim=-1)
    for row, sampler in enumerate(samplers):
        if sampler.noise is not None:
            tokens[row] = sampler.choose(logits[row])
    scores = logits.float()
    chosen = scores.gather(1, tokens[:, None])[:, 0]
    probabilities = torch.exp(chosen - torch.logsumexp(scores, dim=-1))
    return Sampled(tokens.tolist(), probabilities.tolist())
