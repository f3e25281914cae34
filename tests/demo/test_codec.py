"""The mask codec learns, and its decoder is the one that serving loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from service.demo.codec import CodecPlan, MaskCodec, codec_quality, random_pair, train_codec
from service.model.mask_decoder import load_mask_decoder


@pytest.fixture(scope="module")
def codec() -> MaskCodec:
    torch.set_num_threads(1)
    return train_codec(CodecPlan(steps=70, batch=12, pool=200, learning_rate=3e-3), seed=1)


def test_a_short_training_already_restores_masks(codec: MaskCodec) -> None:
    untrained = codec_quality(MaskCodec().eval(), count=40)
    trained = codec_quality(codec, count=40)
    assert trained["iou"] > untrained["iou"] + 0.03
    assert 0 <= trained["stable"] <= 1


def test_codes_are_sixteen_numbers_below_128(codec: MaskCodec) -> None:
    masks = torch.from_numpy(np.stack([random_pair(np.random.default_rng(seed))[0] for seed in range(5)]))
    codes = codec.encode(masks)
    assert codes.shape == (5, 16)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 128
    assert codec.decode(codes).shape == (5, 64, 64)


def test_the_exported_decoder_has_the_published_names_and_shapes(codec: MaskCodec) -> None:
    shapes = {"decoder.0.weight": (128, 512, 1, 1), "decoder.0.bias": (128,), "_vq_vae._embedding": (128, 512)}
    for block in (2, 3):
        for layer, kernel in ((0, 3), (2, 3), (4, 1)):
            shapes[f"decoder.{block}.net.{layer}.weight"] = (128, 128, kernel, kernel)
            shapes[f"decoder.{block}.net.{layer}.bias"] = (128,)
    for layer, before, after in ((4, 128, 128), (6, 128, 64), (8, 64, 32), (10, 32, 16)):
        shapes[f"decoder.{layer}.weight"] = (before, after, 4, 4)
        shapes[f"decoder.{layer}.bias"] = (after,)
    shapes |= {"decoder.12.weight": (1, 16, 1, 1), "decoder.12.bias": (1,)}
    exported = codec.exported()
    assert {name: tuple(tensor.shape) for name, tensor in exported.items()} == shapes
    assert {tensor.dtype for tensor in exported.values()} == {torch.float16}


def test_serving_decodes_the_same_masks(codec: MaskCodec, tmp_path: Path) -> None:
    save_file(codec.exported(), tmp_path / "mask_decoder.safetensors")
    served = load_mask_decoder(tmp_path / "mask_decoder.safetensors")
    codes = torch.randint(128, (6, 16), generator=torch.Generator().manual_seed(0))
    ours = codec.decode(codes).numpy()
    np.testing.assert_allclose(served.decode(codes.numpy()), ours, atol=0.02 * np.abs(ours).max())


def test_the_two_masks_of_a_pair_are_near() -> None:
    for seed in range(20):
        clean, wobbled = random_pair(np.random.default_rng(seed))
        both, either = ((clean > 127) & (wobbled > 127)).sum(), ((clean > 127) | (wobbled > 127)).sum()
        assert both / either > 0.75
