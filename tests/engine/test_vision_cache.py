import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.engine.generation import Picture
from service.engine.vision_cache import VisionCache
from service.errors import InvalidImage
from tests.fakes import SilentObserver

BYTES = 100


class Bench:
    """A cache for three pictures, and a count of those that were made."""

    def __init__(self, limit: int = 3 * BYTES) -> None:
        self.observer = SilentObserver()
        self.cache = VisionCache("fake", limit, BYTES, self.observer)
        self.made: list[bytes] = []

    async def ask(self, image: bytes, answered: bool = True) -> Picture:
        async def make() -> Picture:
            self.made.append(image)
            return Picture(image, (len(image), 1))

        async with self.cache.hold(image, make) as picture:
            picture.answered = picture.answered or answered
            return picture


def run(work: Callable[[Bench], Awaitable[None]], limit: int = 3 * BYTES) -> Bench:
    bench = Bench(limit)

    async def main() -> None:
        async with asyncio.timeout(20):
            await work(bench)

    asyncio.run(main())
    return bench


def test_the_second_question_finds_the_picture() -> None:
    async def work(bench: Bench) -> None:
        first = await bench.ask(b"one")
        assert await bench.ask(b"one") is first
        assert await bench.ask(b"two") is not first

    bench = run(work)
    assert bench.made == [b"one", b"two"]
    assert bench.observer.asked == [False, True, False]
    assert bench.observer.held_bytes == 2 * BYTES


def test_threat_46_the_least_recently_used_go_first_and_the_bytes_stay_bounded() -> None:
    async def work(bench: Bench) -> None:
        for name in (b"1", b"2", b"3", b"1", b"4", b"1", b"2"):
            await bench.ask(name)
        assert bench.made == [b"1", b"2", b"3", b"4", b"2"]
        for number in range(30):
            await bench.ask(str(number).encode())
            assert bench.observer.held_bytes == 3 * BYTES

    run(work)


def test_threat_45_a_cache_without_bytes_is_off() -> None:
    async def work(bench: Bench) -> None:
        assert await bench.ask(b"one") is not await bench.ask(b"one")

    bench = run(work, limit=BYTES - 1)
    assert bench.made == [b"one", b"one"]
    assert bench.observer.asked == []


def test_a_picture_in_flight_is_made_once() -> None:
    async def work(bench: Bench) -> None:
        going_on = asyncio.Event()

        async def make() -> Picture:
            bench.made.append(b"one")
            await going_on.wait()
            return Picture("pixels", (1, 1))

        async def ask() -> Picture:
            async with bench.cache.hold(b"one", make) as picture:
                return picture

        asks = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)
        asks[0].cancel()  # the others do not lose their picture with it
        await asyncio.sleep(0)
        going_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asks[0]
        assert await asks[1] is await asks[2]

    bench = run(work)
    assert bench.made == [b"one"]
    assert bench.observer.asked == [False, True, True]


def test_a_picture_that_cannot_be_read_fails_all_who_wait_and_is_not_kept() -> None:
    async def work(bench: Bench) -> None:
        async def make() -> Picture:
            await asyncio.sleep(0)
            raise InvalidImage("no")

        async def ask() -> None:
            async with bench.cache.hold(b"one", make):
                pass

        answers = await asyncio.gather(ask(), ask(), return_exceptions=True)
        assert [type(each) for each in answers] == [InvalidImage, InvalidImage]
        assert await bench.ask(b"one")

    run(work)


def test_a_picture_that_nobody_got_an_answer_about_is_not_kept() -> None:
    async def work(bench: Bench) -> None:
        await bench.ask(b"one", answered=False)
        await bench.ask(b"one")

    assert run(work).made == [b"one", b"one"]


def test_a_picture_whose_last_asker_left_is_given_up() -> None:
    async def work(bench: Bench) -> None:
        stopped = asyncio.Event()

        async def make() -> Picture:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            raise AssertionError

        async def ask() -> None:
            async with bench.cache.hold(b"one", make):
                pass

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        await stopped.wait()
        assert await bench.ask(b"one")

    run(work)


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def test_threat_43_pictures_of_equal_pixels_are_not_taken_for_one_another() -> None:
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0])
    other = Image.new("P", (4, 4))
    other.putpalette([0, 0, 255])
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = [
        encoded(Image.new("L", (30, 100), 9)), encoded(Image.new("L", (100, 30), 9)), encoded(palette), encoded(other),
        encoded(Image.new("RGB", (30, 100))), encoded(Image.new("RGB", (30, 100)), exif=turned),
    ]  # fmt: skip

    async def work(bench: Bench) -> None:
        made = [await bench.ask(each) for each in pictures]
        again = [await bench.ask(each) for each in pictures]
        assert [one is other for one, other in zip(made, again, strict=True)] == [True] * len(pictures)
        assert len({id(each) for each in made}) == len(pictures)

    run(work, limit=100 * BYTES)


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=60), st.integers(1, 4))
def test_threat_43_whoever_asks_gets_the_picture_of_their_own_bytes(images: list[bytes], most: int) -> None:
    async def work(bench: Bench) -> None:
        for image in images:
            assert (await bench.ask(image)).pixels == image
            assert bench.observer.held_bytes <= most * BYTES

    run(work, limit=most * BYTES)


def test_a_large_file_is_hashed_aside() -> None:
    async def work(bench: Bench) -> None:
        large = bytes(3_000_000)
        assert await bench.ask(large) is await bench.ask(large)

    run(work)
