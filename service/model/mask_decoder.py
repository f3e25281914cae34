"""Sixteen codes to a mask: the decoder of PaliGemma's VQ-VAE.

Architecture and weights are big_vision's (evaluators/proj/paligemma/transfers/segmentation.py, ``vae-oid.npz``). Two files are read: the
original, and ``mask_decoder.safetensors``, which holds the same tensors under the same names without the encoder.
"""

import hashlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

CODES = 128
CODES_PER_MASK = 16
GRID_SIDE = 4
EMBEDDING_WIDTH = 512
WIDTH = 128
MASK_SIDE = 64
CODEBOOK = "_vq_vae._embedding"
MASKS_PER_BATCH = 64
BAND = 512
"""Rows of a stretched mask that are read at once: read as a whole it would be held twice more."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file is meant, by its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


VAE_OID = FileIdentity(size=8_479_556, sha256="5586010257b8536dddefab65e7755077f21d5672d5674dacf911f73ae95a4447")
"""``gs://big_vision/paligemma/vae-oid.npz``, as the Git LFS pointer in zsxkib/cog-paligemma2-10b-mix@aa86099 has it."""


class ResidualBlock(nn.Module):
    """x + (3x3, ReLU, 3x3, ReLU, 1x1), without an activation behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape [n, 128, h, w]."""
        added: Tensor = self.net(features)
        return features + added


class MaskDecoder(nn.Module):
    """The codebook [128, 512] and the network from a 4x4 grid of its rows to a 64x64 mask. Computes in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(CODES, EMBEDDING_WIDTH))
        # The indices in this sequence are the numbers in the file's tensor names.
        self.decoder = nn.Sequential(
            nn.Conv2d(EMBEDDING_WIDTH, WIDTH, 1),
            nn.ReLU(),
            ResidualBlock(),
            ResidualBlock(),
            *_doubling(WIDTH, 128),
            *_doubling(128, 64),
            *_doubling(64, 32),
            *_doubling(32, 16),
            nn.Conv2d(16, 1, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """Compute masks [n, 64, 64] of codes [n, 16], which fill the grid row by row."""
        grid = self.get_buffer("codebook")[codes].reshape(-1, GRID_SIDE, GRID_SIDE, EMBEDDING_WIDTH)
        masks: Tensor = self.decoder(grid.permute(0, 3, 1, 2))
        return masks[:, 0]

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.integer] | Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Compute float32 [n, 64, 64], nominally -1..1, inside above 0, of codes [n, 16]. Errors: ValueError for codes outside 0..127."""
        if len(codes) == 0:
            return np.zeros((0, MASK_SIDE, MASK_SIDE), dtype=np.float32)
        if any(len(row) != CODES_PER_MASK or min(row) < 0 or max(row) >= CODES for row in codes):
            raise ValueError(f"A mask is {CODES_PER_MASK} codes of 0..{CODES - 1} each.")
        table = torch.from_numpy(np.asarray(codes, dtype=np.int64))
        device = self.get_buffer("codebook").device
        batches = [self(batch.to(device)).cpu().numpy() for batch in torch.split(table, MASKS_PER_BATCH)]
        return np.concatenate(batches)


def load_mask_decoder(path: Path, expected: FileIdentity = VAE_OID) -> MaskDecoder:
    """Read the decoder from a ``.safetensors`` file (float16 or float32), or from the original ``.npz``, which must be ``expected``.

    Errors: OSError where the file cannot be read, ValueError where it is not what it should be.
    """
    content = path.read_bytes()
    tensors = _from_npz(path.name, content, expected) if path.suffix == ".npz" else _from_safetensors(path.name, content)
    decoder = MaskDecoder()
    state = {("codebook" if name == CODEBOOK else name): tensor for name, tensor in tensors.items()}
    for name, own in decoder.state_dict().items():
        if name not in state:
            raise ValueError(f"{path.name} lacks the tensor {CODEBOOK if name == 'codebook' else name} of a mask decoder.")
        if state[name].shape != own.shape or not state[name].is_floating_point():
            found = f"{tuple(state[name].shape)} of {state[name].dtype}"
            raise ValueError(f"{path.name} should hold {name} as {tuple(own.shape)} of a float type, but has {found}.")
    decoder.load_state_dict({name: state[name].float() for name in decoder.state_dict()})
    return decoder.eval().requires_grad_(False)


def paint(
    masks: NDArray[np.float32], boxes: Sequence[tuple[float, float, float, float]], image_size: tuple[int, int]
) -> Iterator[NDArray[np.bool_]]:
    """Stretch masks [n, 64, 64] into their boxes (x_min, y_min, x_max, y_max), in pixels of a picture of (width, height).

    Each is [height, width], true where the bilinearly interpolated mask is above 0: big_vision's evaluation, but with the edges of the box
    rounded to whole pixels. A box without area is all false; one thinner than a pixel still gets one.
    """
    return (_paint_one(mask, box, image_size) for mask, box in zip(masks, boxes, strict=True))


def _paint_one(mask: NDArray[np.float32], box: tuple[float, float, float, float], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = image_size
    painted = np.zeros((height, width), dtype=np.bool_)
    left, right = _whole_pixels(box[0], box[2], width)
    top, bottom = _whole_pixels(box[1], box[3], height)
    if left < right and top < bottom:
        stretched = Image.fromarray(mask).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        for first in range(0, bottom - top, BAND):
            end = min(first + BAND, bottom - top)
            painted[top + first : top + end, left:right] = np.asarray(stretched.crop((0, first, right - left, end))) > 0
    return painted


def _whole_pixels(low: float, high: float, side: int) -> tuple[int, int]:
    """Round to whole pixels within 0..side; at least one where there is any length inside the picture."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0, 0
    low, high = max(low, 0.0), min(high, float(side))
    if low >= high:
        return 0, 0
    first, end = math.floor(low + 0.5), math.floor(high + 0.5)
    if first == end:
        first = min(math.floor(low), side - 1)
        end = first + 1
    return first, end


def _doubling(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()


def _from_npz(name: str, content: bytes, expected: FileIdentity) -> Mapping[str, Tensor]:
    if len(content) != expected.size:
        raise ValueError(f"{name} should have {expected.size} bytes, but has {len(content)}: fetch the original vae-oid.npz again.")
    found = hashlib.sha256(content).hexdigest()
    if found != expected.sha256:
        raise ValueError(f"{name} should have the SHA-256 {expected.sha256}, but has {found}: fetch the original vae-oid.npz again.")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            wanted = [key for key in arrays.files if key == CODEBOOK or key.startswith("decoder.")]
            return {key: torch.from_numpy(arrays[key]) for key in wanted}
    except (ValueError, TypeError, EOFError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is not a readable .npz file of plain number arrays.") from error


def _from_safetensors(name: str, content: bytes) -> Mapping[str, Tensor]:
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{name} is not a readable .safetensors file.") from error
