"""The playground's sample pictures are what the code draws."""

import numpy as np
import pytest
from PIL import Image

from service.demo.sample_pictures import FOLDER, SAMPLES

LARGEST = 150_000


@pytest.mark.parametrize("name", SAMPLES)
def test_a_committed_picture_is_the_codes(name: str) -> None:
    with Image.open(FOLDER / name) as committed:
        found = np.asarray(committed.convert("RGB"), dtype=np.int16)
    drawn = np.asarray(SAMPLES[name].draw().convert("RGB"), dtype=np.int16)
    assert found.shape == drawn.shape
    # Type and edges may differ by a shade between versions of Pillow.
    assert np.abs(found - drawn).mean() < 2


@pytest.mark.parametrize("name", ["scene.png", *SAMPLES])
def test_pictures_are_small(name: str) -> None:
    assert (FOLDER / name).stat().st_size <= LARGEST
