"""Larger patches of the same checkpoint: the answer about a picture is the one about its averaged self."""

from pathlib import Path

import numpy as np
import pytest
import torch

import service.demo
from service.engine.generation import Picture
from service.model.loading import Source, load_model, open_checkpoint, survey
from service.model.runner import PaliGemmaRunner, RunnerOptions
from service.model.vision import Normalisation

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
NORMALISATION = Normalisation(1 / 255, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("times", [2, 4])
def test_features_are_those_of_the_averaged_picture(times: int) -> None:
    small = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    large = small.repeat(times, 0).repeat(times, 1)
    features = []
    for factor, pixels in ((1, small), (times, large)):
        source = Source(str(DEMO), dtype="float32", device="cpu", enlarge=factor)
        checkpoint, seen = open_checkpoint(source), survey(source)
        assert seen is not None
        assert seen.resolution == checkpoint.config.vision_config.image_size == 224 * factor
        runner = PaliGemmaRunner(load_model(checkpoint.weights), NORMALISATION, RunnerOptions(1, 8))
        assert runner.image_tokens == 64
        features.append(runner.encode([Picture(pixels, (224, 224))])[0])
    torch.testing.assert_close(features[0], features[1], atol=1e-4, rtol=1e-4)
