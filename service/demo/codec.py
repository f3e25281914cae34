"""The mask codec: a 64 x 64 mask becomes 16 of 128 codes and back.

Decoder and codebook have the names and shapes of PaliGemma's own VQ-VAE.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from service.demo.scenes import SHAPES, Thing, mask_in_box, place_polygon

CODES = 128
WIDTH = 512
SIDE = 64


class Residual(nn.Module):
    """x + net(x). ``reach`` 3 looks at the neighbours, 1 does not."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        pad = reach // 2
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, reach, padding=pad), nn.ReLU(), nn.Conv2d(channels, channels, reach, padding=pad), nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] to the same."""
        return x + self.net(x)  # type: ignore[no-any-return]


class Codebook(nn.Module):
    """128 rows of 512, moved by averages of what they stand for, not by gradients."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.randn(CODES, WIDTH) * 0.1
        self.register_buffer("_embedding", rows)
        self.register_buffer("_count", torch.ones(CODES))
        self.register_buffer("_sum", rows.clone())

    _embedding: Tensor
    _count: Tensor
    _sum: Tensor

    def nearest(self, latents: Tensor) -> Tensor:
        """[n, 512] to the number of the nearest row [n]."""
        rows = self._embedding
        return (rows.pow(2).sum(dim=1) - 2 * latents @ rows.t()).argmin(dim=1)

    def follow(self, latents: Tensor, codes: Tensor, decay: float = 0.97) -> None:
        """Move each row towards the mean of the latents it was chosen for."""
        chosen = F.one_hot(codes, CODES).float()
        self._count.mul_(decay).add_(chosen.sum(dim=0), alpha=1 - decay)
        self._sum.mul_(decay).add_(chosen.t() @ latents, alpha=1 - decay)
        self._embedding.copy_(self._sum / (self._count + 1e-3)[:, None])

    def revive(self, latents: Tensor, every: bool) -> None:
        """Put rows that are not used (or ``every`` row) onto latents that occur."""
        share = latents.shape[0] / CODES
        dead = torch.arange(CODES) if every else (self._count < 0.05 * share).nonzero()[:, 0]
        taken = latents[torch.randperm(latents.shape[0])[: len(dead)]]
        self._embedding[dead], self._sum[dead], self._count[dead] = taken, taken * share, share


class MaskCodec(nn.Module):
    """Encoder, codebook, decoder. Each code sees its own 16 x 16 pixels and little more: so it can be told from what is seen there."""

    def __init__(self) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64), (64, 128)):
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, Residual(128, 1), Residual(128, 1), nn.Conv2d(128, WIDTH, 1))
        up: list[nn.Module] = [nn.Conv2d(WIDTH, 128, 1), nn.ReLU(), Residual(128, 3), Residual(128, 3)]
        for before, after in ((128, 128), (128, 64), (64, 32), (32, 16)):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.ReLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(16, 1, 1))
        self._vq_vae = Codebook()

    def latents(self, masks: Tensor) -> Tensor:
        """Masks [n, 64, 64] of 0..255 to [n * 16, 512], row by row."""
        seen = self.encoder(masks.float()[:, None] / 127.5 - 1)
        return seen.permute(0, 2, 3, 1).reshape(-1, WIDTH)  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode(self, masks: Tensor) -> Tensor:
        """Masks [n, 64, 64] of 0..255 to codes [n, 16]."""
        return self._vq_vae.nearest(self.latents(masks)).view(-1, 16)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """[n * 16, 512] to raw masks [n, 64, 64]; positive is inside."""
        return self.decoder(latents.view(-1, 4, 4, WIDTH).permute(0, 3, 1, 2))[:, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [n, 16] to raw masks [n, 64, 64]."""
        return self.decode_latents(self._vq_vae._embedding[codes.flatten()])

    def exported(self) -> dict[str, Tensor]:
        """What serving needs, in half precision: the decoder and the codebook."""
        kept = {name: value for name, value in self.state_dict().items() if name.startswith("decoder.") or name == "_vq_vae._embedding"}
        return {name: value.half().contiguous() for name, value in kept.items()}


def random_pair(rng: Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A mask in its box, and the same thing a little turned and cut off differently: the codec must see them as one."""
    shape, stretch, turn = SHAPES[rng.integers(len(SHAPES))], math.exp(rng.uniform(-0.25, 0.25)), rng.uniform(-0.45, 0.45)
    masks = []
    for wobble in (0.0, 1.0):
        polygon = place_polygon(
            shape, stretch * (1 + wobble * rng.uniform(-0.03, 0.03)), 1 / stretch, turn + wobble * rng.uniform(-0.05, 0.05)
        )
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        shift = wobble * 0.03 * (high - low)
        low, high = low + rng.uniform(-1, 1, 2) * shift, high + rng.uniform(-1, 1, 2) * shift
        masks.append(mask_in_box(Thing(shape, "red", polygon, (low[1], low[0], high[1], high[0]), (0, 0, 0), False)))
    return masks[0], masks[1]


@dataclass(frozen=True, slots=True)
class CodecPlan:
    """How long and with how much the codec is trained."""

    steps: int = 600
    batch: int = 48
    pool: int = 8000
    learning_rate: float = 1.5e-3
    plain_steps: int = 20


def train_codec(plan: CodecPlan, seed: int, known: Mapping[str, Tensor] | None = None) -> MaskCodec:
    """Reconstruct the clean mask from the codes of a wobbled one.

    ``known``: a decoder and its codebook (``MaskCodec.exported``) that stay as they are; only an encoder for them is learnt.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng) for _ in range(plan.pool)]
    clean, wobbled = (torch.from_numpy(np.stack([pair[side] for pair in pairs])) for side in (0, 1))
    codec = MaskCodec()
    if known is not None:
        codec.load_state_dict({name: value.float() for name, value in known.items()}, strict=False)
        codec.decoder.requires_grad_(False)
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(codec.parameters(), lr=plan.learning_rate)
    for step in tqdm(range(plan.steps), desc="codec"):
        rate = plan.learning_rate * min(1, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / plan.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = torch.randint(plan.pool, (plan.batch,))
        latents = codec.latents(wobbled[chosen])
        quantised, commitment = _quantise(codec._vq_vae, latents, None if known else (step, plan))
        loss = F.binary_cross_entropy_with_logits(codec.decode_latents(quantised), clean[chosen].float() / 255) + commitment
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return codec.eval()


def _quantise(book: Codebook, latents: Tensor, following: tuple[int, CodecPlan] | None) -> tuple[Tensor, Tensor]:
    """Latents replaced by their codebook rows (gradients pass through), and the loss that keeps them near.

    ``following``: at what step of what plan, where the codebook is learnt too.
    """
    if following:
        step, plan = following
        if step < plan.plain_steps:
            return latents, torch.zeros(())
        if step == plan.plain_steps or (step % 50 == 0 and step < 0.6 * plan.steps):
            book.revive(latents.detach(), every=step == plan.plain_steps)
    seen = latents.detach()
    codes = book.nearest(seen)
    rows = book._embedding[codes]
    commitment = F.mse_loss(latents, rows)
    if following:
        book.follow(seen, codes)
    return latents + (rows - latents).detach(), commitment


@torch.no_grad()
def codec_quality(codec: MaskCodec, seed: int = 99, count: int = 400) -> dict[str, float]:
    """IoU of masks through the codec, and the share of codes that a small wobble leaves as they are."""
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng) for _ in range(count)]
    clean, wobbled = (torch.from_numpy(np.stack([pair[side] for pair in pairs])) for side in (0, 1))
    codes = codec.encode(clean)
    inside, truth = codec.decode(codes) > 0, clean > 127
    overlap = (inside & truth).sum(dim=(1, 2)) / (inside | truth).sum(dim=(1, 2)).clamp(min=1)
    return {
        "iou": overlap.mean().item(),
        "stable": (codes == codec.encode(wobbled)).float().mean().item(),
        "used": float(torch.unique(codes).numel()),
    }
