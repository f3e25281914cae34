"""The playground's sample pictures: ``python -m service.demo.sample_pictures`` writes them, all but ``scene.png``, beside the README's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from service.demo.scenes import Scene, SceneKind, draw_scene, make_scene

FOLDER = Path(__file__).parent / "samples"

DRAWN_SIDE = 1200
"""Pixels of the square that a scene is drawn in, before it takes its picture's size."""

COLOURS = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """A scene by its seed, and the picture's width and height."""

    seed: int
    kind: SceneKind
    size: tuple[int, int]

    @property
    def scene(self) -> Scene:
        """What is to be seen in it."""
        return make_scene(np.random.default_rng(self.seed), self.kind)

    def draw(self) -> Image.Image:
        """The picture, in few colours so that its file is small."""
        return draw_scene(self.scene, DRAWN_SIDE).resize(self.size).quantize(COLOURS, dither=Image.Dither.NONE)


SAMPLES = {
    "shapes.png": Sample(153, SceneKind(sign_share=0, things=4, zoom=(0.85, 0.85)), (720, 540)),
    "sign.png": Sample(46, SceneKind(sign_share=1, things=3, zoom=(0.9, 0.9)), (640, 640)),
    # Too small for 224 pixels, and large enough for 448: what resolutions are for.
    "small.png": Sample(144, SceneKind(sign_share=1, things=2, zoom=(0.42, 0.42), plain_text=True), (896, 672)),
}


def _write() -> None:
    for name, sample in SAMPLES.items():
        sample.draw().save(FOLDER / name, optimize=True)
        print(name, [thing.name for thing in sample.scene.things], sample.scene.sign and sample.scene.sign.text)


if __name__ == "__main__":
    _write()
