"""Whether JPEGs may be decoded at a fraction of their size (``Image.draft``): only within 2 levels of 255 of the whole picture, resized."""

import time
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from load_tests.report import write

SIZE = (4000, 3000)
SIDES = (224, 448)
ALLOWED = 2
MARGINS = (2, 4)
"""Times the model's side that is decoded at least."""


def pictures() -> dict[str, Image.Image]:
    """Twelve megapixels each: a smooth one, one with texture, one with small print."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
    smooth = rough.resize(SIZE, Image.Resampling.BICUBIC)
    texture = Image.fromarray(rng.integers(0, 256, (SIZE[1] // 4, SIZE[0] // 4, 3), dtype=np.uint8)).resize(SIZE)
    text = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(text)
    for row in range(0, SIZE[1], 60):
        draw.text((20, row), "The quick brown fox jumps over the lazy dog 0123456789 " * 4, fill="black", font_size=40)
    return {"smooth": smooth, "texture": texture.filter(ImageFilter.GaussianBlur(3)), "text": text}


def squeezed(data: bytes, side: int, margin: int = 0) -> np.ndarray:
    """Decode and resize, as the service does, or from a decoding of ``margin`` times the side."""
    image = Image.open(BytesIO(data))
    if margin:
        image.draft("RGB", (margin * side, margin * side))
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)


def milliseconds(work: Callable[[], object]) -> float:
    """The least of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def compare(name: str, data: bytes, side: int, margin: int) -> tuple[tuple[str, str], int]:
    """A row of the table, and the largest difference."""
    difference = np.abs(squeezed(data, side, margin) - squeezed(data, side))
    whole, scaled = milliseconds(lambda: squeezed(data, side)), milliseconds(lambda: squeezed(data, side, margin))
    label = f"{name}, {side} px, margin {margin}: largest, mean difference; ms whole, scaled"
    return (label, f"{difference.max()}, {difference.mean():.2f}; {whole:.0f}, {scaled:.0f}"), int(difference.max())


def main() -> None:
    """Measure and write the results."""
    rows, worst = [], dict.fromkeys(MARGINS, 0)
    for name, picture in pictures().items():
        file = BytesIO()
        picture.save(file, "JPEG", quality=90)
        for margin in MARGINS:
            for side in SIDES:
                row, largest = compare(name, file.getvalue(), side, margin)
                rows.append(row)
                worst[margin] = max(worst[margin], largest)
    rows += [(f"margin {margin}: largest of all (at most {ALLOWED} would be allowed)", str(largest)) for margin, largest in worst.items()]
    write("scaled_decoding", "JPEGs decoded at a fraction of their size", "make bench-scaled-decoding", rows, {"largest": worst})


if __name__ == "__main__":
    main()
