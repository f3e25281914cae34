import hashlib
import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from service.model.mask_decoder import CODEBOOK, VAE_OID, FileIdentity, MaskDecoder, load_mask_decoder, paint

Weights = dict[str, NDArray[np.float32]]


def residual_block(name: str) -> dict[str, tuple[int, ...]]:
    return {
        **{f"{name}.net.{index}.weight": (128, 128, 3, 3) for index in (0, 2)},
        f"{name}.net.4.weight": (128, 128, 1, 1),
        **{f"{name}.net.{index}.bias": (128,) for index in (0, 2, 4)},
    }


def decoder_layout() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {CODEBOOK: (128, 512), "decoder.0.weight": (128, 512, 1, 1), "decoder.0.bias": (128,)}
    shapes |= residual_block("decoder.2") | residual_block("decoder.3")
    for index, (inputs, outputs) in zip((4, 6, 8, 10), itertools.pairwise((128, 128, 64, 32, 16)), strict=True):
        shapes |= {f"decoder.{index}.weight": (inputs, outputs, 4, 4), f"decoder.{index}.bias": (outputs,)}
    return shapes | {"decoder.12.weight": (1, 16, 1, 1), "decoder.12.bias": (1,)}


def original_layout() -> dict[str, tuple[int, ...]]:
    """All 49 arrays of vae-oid.npz."""
    shapes: dict[str, tuple[int, ...]] = {"_vq_vae._ema_cluster_size": (128,), "_vq_vae._ema_w": (128, 512)}
    for index, (inputs, outputs) in zip((0, 2, 4, 6), itertools.pairwise((1, 16, 32, 64, 128)), strict=True):
        shapes |= {f"encoder.{index}.weight": (outputs, inputs, 4, 4), f"encoder.{index}.bias": (outputs,)}
    shapes |= residual_block("encoder.8") | residual_block("encoder.9") | {"encoder.10.weight": (512, 128, 1, 1), "encoder.10.bias": (512,)}
    return shapes | decoder_layout()


def random_weights(layout: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """Scaled by the number of inputs, so that differences are not lost in vanishing outputs."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in layout.items():
        scale = 1.5 / math.sqrt(math.prod(shape[1:])) if len(shape) > 2 else 1.0
        weights[name] = (scale * random.standard_normal(shape)).astype(np.float32)
    return weights


def identity(content: bytes) -> FileIdentity:
    return FileIdentity(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def npz(arrays: dict[str, NDArray[np.generic]] | Weights) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(original_layout())


@pytest.fixture(scope="module")
def original(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vae-oid.npz"
    path.write_bytes(npz(weights))
    return path


@pytest.fixture(scope="module")
def decoder(original: Path) -> MaskDecoder:
    return load_mask_decoder(original, identity(original.read_bytes()))


# --- the arithmetic, once more and slowly ---


def convolution(x: NDArray[np.float64], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """x [inputs, h, w], weight [outputs, inputs, k, k] with k odd, same padding."""
    size = weight.shape[-1]
    margin = size // 2
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    out = np.zeros((weight.shape[0], height, width)) + bias[:, None, None]
    for down in range(size):
        for right in range(size):
            out += np.einsum("oi,ihw->ohw", weight[:, :, down, right], padded[:, down : down + height, right : right + width])
    return out


def doubled(x: NDArray[np.float64], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """Transposed convolution, kernel 4, stride 2: every input pixel adds its kernel, one pixel is cut off all around."""
    _, height, width = x.shape
    canvas = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for row in range(height):
        for column in range(width):
            canvas[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += np.einsum("i,iokl->okl", x[:, row, column], weight)
    return canvas[:, 1:-1, 1:-1] + bias[:, None, None]


def rectified(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(x, 0)


def slow_decode(weights: Weights, codes: list[int]) -> NDArray[np.float64]:
    def of(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return weights[f"decoder.{name}.weight"], weights[f"decoder.{name}.bias"]

    grid = np.zeros((512, 4, 4))
    for place, code in enumerate(codes):
        grid[:, place // 4, place % 4] = weights[CODEBOOK][code]
    x = rectified(convolution(grid, *of("0")))
    for block in ("2", "3"):
        inner = rectified(convolution(x, *of(f"{block}.net.0")))
        inner = rectified(convolution(inner, *of(f"{block}.net.2")))
        x = x + convolution(inner, *of(f"{block}.net.4"))
    for layer in ("4", "6", "8", "10"):
        x = rectified(doubled(x, *of(layer)))
    mask: NDArray[np.float64] = convolution(x, *of("12"))[0]
    return mask


def test_masks_equal_an_independent_decoder(weights: Weights, decoder: MaskDecoder) -> None:
    codes = np.random.default_rng(1).integers(0, 128, (3, 16))
    codes[0] = range(16)
    masks = decoder.decode(codes)
    assert masks.shape == (3, 64, 64)
    assert masks.dtype == np.float32
    for mask, row in zip(masks, codes.tolist(), strict=True):
        expected = slow_decode(weights, row)
        assert expected.std() > 0.1
        assert np.abs(mask - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_many_masks_equal_one_at_a_time(decoder: MaskDecoder) -> None:
    codes = np.random.default_rng(2).integers(0, 128, (66, 16)).tolist()
    masks = decoder.decode(codes)
    assert masks.shape == (66, 64, 64)
    for index in (0, 63, 64, 65):
        assert np.allclose(masks[index], decoder.decode([codes[index]])[0], rtol=1e-4, atol=1e-4)


def test_no_codes_are_no_masks(decoder: MaskDecoder) -> None:
    assert decoder.decode([]).shape == (0, 64, 64)


@pytest.mark.parametrize("codes", [[[128] * 16], [[-1] * 16], [[0] * 15], [[0] * 17], [[]], [[0] * 16, [0] * 15 + [999]]])
def test_other_codes_are_refused(decoder: MaskDecoder, codes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"16 codes of 0\.\.127"):
        decoder.decode(codes)


# --- the files ---


def test_the_layout_gives_the_original_file_to_the_byte(original: Path) -> None:
    assert len(original_layout()) == 49
    assert sum(int(np.prod(shape)) for shape in original_layout().values()) == 2_116_593
    assert original.stat().st_size == VAE_OID.size == 8_479_556


def test_the_identity_of_the_original_is_a_sha256() -> None:
    assert len(bytes.fromhex(VAE_OID.sha256)) == 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_safetensors_file_gives_the_same_masks(weights: Weights, decoder: MaskDecoder, tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "mask_decoder.safetensors"
    save_file({name: torch.from_numpy(weights[name]).to(dtype) for name in decoder_layout()}, path)
    other = load_mask_decoder(path)
    codes = np.random.default_rng(3).integers(0, 128, (2, 16))
    tolerance = 1e-6 if dtype is torch.float32 else 2e-2
    assert np.allclose(other.decode(codes), decoder.decode(codes), rtol=tolerance, atol=tolerance * 10)
    assert all(tensor.dtype == torch.float32 for tensor in other.state_dict().values())


def test_threat_61_another_file_is_not_the_original(original: Path) -> None:
    with pytest.raises(ValueError, match=f"{VAE_OID.sha256}, but has {identity(original.read_bytes()).sha256}"):
        load_mask_decoder(original)


def test_threat_61_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vae-oid.npz"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="should have 8479556 bytes, but has 43"):
        load_mask_decoder(path)


class Trap:
    """Unpickling it is noticed."""

    sprung = False

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return spring, ("",)


def spring(_: str) -> Trap:
    Trap.sprung = True
    return Trap()


def test_threat_61_pickled_arrays_are_refused_unopened(weights: Weights, tmp_path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {**weights, CODEBOOK: np.array([Trap()], dtype=object)}
    path = tmp_path / "vae-oid.npz"
    path.write_bytes(npz(arrays))
    with pytest.raises(ValueError, match="plain number arrays"):
        load_mask_decoder(path, identity(path.read_bytes()))
    assert not Trap.sprung


@pytest.mark.parametrize("content", [b"", b"PK\3\4garbage", b"\x80\x04K\x01.", b"\x93NUMPY\1\0\x10\0{}"])
def test_threat_61_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vae-oid.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        load_mask_decoder(path, identity(content))


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, (2**62).to_bytes(8, "little") + b"{}", b"PK\3\4"])
def test_threat_63_a_broken_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mask_decoder.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable \.safetensors"):
        load_mask_decoder(path)


def test_a_missing_tensor_is_named(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "mask_decoder.safetensors"
    save_file({name: torch.from_numpy(weights[name]) for name in decoder_layout() if name != "decoder.6.bias"}, path)
    with pytest.raises(ValueError, match=r"lacks the tensor decoder\.6\.bias"):
        load_mask_decoder(path)
    save_file({name: torch.from_numpy(weights[name]) for name in decoder_layout() if name != CODEBOOK}, path)
    with pytest.raises(ValueError, match=r"lacks the tensor _vq_vae\._embedding"):
        load_mask_decoder(path)


def test_threat_61_a_tensor_of_another_shape_or_type_is_named(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "mask_decoder.safetensors"
    tensors = {name: torch.from_numpy(weights[name]) for name in decoder_layout()}
    for wrong in (torch.zeros(64, 64, 4, 4), torch.zeros(64, 32, 4, 4, dtype=torch.int64)):
        save_file({**tensors, "decoder.8.weight": wrong}, path)
        with pytest.raises(ValueError, match=r"decoder\.8\.weight as \(64, 32, 4, 4\)"):
            load_mask_decoder(path)


# --- painting ---

INSIDE = np.ones((1, 64, 64), dtype=np.float32)
LEFT_HALF = np.where(np.arange(64) < 32, 1.0, -1.0).astype(np.float32)[None, None].repeat(64, axis=1)


def painted(mask: NDArray[np.float32], box: tuple[float, float, float, float], size: tuple[int, int]) -> NDArray[np.bool_]:
    (result,) = paint(mask, [box], size)
    assert result.shape == size[::-1]
    assert result.dtype == np.bool_
    return result


def test_a_mask_fills_its_box_and_nothing_else() -> None:
    result = painted(INSIDE, (2.0, 1.0, 5.0, 3.0), (8, 6))
    expected = np.zeros((6, 8), dtype=np.bool_)
    expected[1:3, 2:5] = True
    assert np.array_equal(result, expected)


def test_a_mask_is_stretched_not_cropped() -> None:
    result = painted(LEFT_HALF, (0.0, 0.0, 200.0, 10.0), (200, 10))
    assert result[:, :100].all()
    assert not result[:, 100:].any()


def test_the_mask_is_interpolated_before_the_threshold() -> None:
    mask = np.random.default_rng(0).standard_normal((1, 64, 64)).astype(np.float32)
    result = painted(mask, (10.2, 19.7, 110.4, 150.1), (128, 160))
    stretched = np.asarray(Image.fromarray(mask[0]).resize((100, 130), Image.Resampling.BILINEAR))
    assert np.array_equal(result[20:150, 10:110], stretched > 0)
    assert result.sum() == (stretched > 0).sum()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((1.5, 1.5, 3.5, 3.5), 4),
        ((1.49, 1.0, 2.49, 2.0), 1),
        ((1.1, 1.1, 1.2, 1.2), 1),
        ((0.0, 2.0, 10.0, 2.1), 10),
        ((9.9, 9.9, 10.0, 10.0), 1),
        ((-5.0, -5.0, 50.0, 50.0), 100),
        ((3.0, 3.0, 3.0, 8.0), 0),
        ((8.0, 8.0, 3.0, 3.0), 0),
        ((-5.0, 0.0, -1.0, 10.0), 0),
        ((10.0, 0.0, 12.0, 10.0), 0),
        ((float("nan"), 0.0, 5.0, 5.0), 0),
        ((0.0, 0.0, float("inf"), 5.0), 0),
    ],
)
def test_box_edges_are_rounded_and_a_thin_box_keeps_a_pixel(box: tuple[float, float, float, float], pixels: int) -> None:
    assert painted(INSIDE, box, (10, 10)).sum() == pixels


def test_masks_that_are_not_numbers_are_empty() -> None:
    assert not painted(np.full((1, 64, 64), np.nan, dtype=np.float32), (0.0, 0.0, 10.0, 10.0), (10, 10)).any()


def test_each_mask_is_painted_into_its_own_box() -> None:
    first, second = paint(np.concatenate([INSIDE, -INSIDE]), [(0.0, 0.0, 2.0, 2.0), (0.0, 0.0, 2.0, 2.0)], (4, 4))
    assert first.sum() == 4
    assert not second.any()
