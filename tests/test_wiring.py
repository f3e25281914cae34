"""The whole service in this process: instances that give room to one another."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import service.demo
from service import planning
from service.errors import DeadlineExceeded, ModelNotReady, OperatorError, Overloaded
from service.instance_settings import InstanceSettings
from service.model.memory_plan import plan
from service.observability.metrics import Metrics
from service.planning import planned
from service.settings import Settings
from service.tasks.asks import Options
from service.wiring import PaliServe

DEMO = Path(service.demo.__file__).parent
SAMPLE = (DEMO / "samples" / "scene.png").read_bytes()


def settings(*names: str, room: float | None = None, pinned: tuple[str, ...] = (), preload: tuple[str, ...] = ()) -> Settings:
    """Instances of the embedded checkpoint, and memory for ``room`` of them."""
    source = str(DEMO / "checkpoints" / "shapes-224")
    instances = tuple(
        InstanceSettings(name=name, source=source, preload=name in preload, pinned=name in pinned, slots=2, max_tokens=64) for name in names
    )
    made = Settings(workers=0, image_workers=0, instances=instances)
    needed = planned(made)[names[0]].memory
    assert needed
    return made.model_copy(update={"instance_memory_bytes": None if room is None else int(room * needed.needed)})


def run(made: Settings, work: Callable[[PaliServe], Awaitable[None]]) -> None:
    async def main() -> None:
        running = PaliServe(made, Metrics("test"))
        await running.start()
        try:
            await work(running)
        finally:
            await running.stop()

    asyncio.run(main())


async def asked(running: PaliServe, model: str) -> str:
    return (await running.tasks.read(SAMPLE, Options(model=model))).answer.text


def warm(running: PaliServe) -> set[str]:
    return {each.name for each in running.models() if each.state == "warm"}


def test_what_was_unused_for_longest_gives_room() -> None:
    async def main(running: PaliServe) -> None:
        for name in ("a", "b", "a", "c"):
            assert await asked(running, name) == "GIFT"
        assert warm(running) == {"a", "c"}
        assert await asked(running, "b") == "GIFT"
        assert warm(running) == {"b", "c"}

    run(settings("a", "b", "c", room=2.5), main)


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall's clock goes a year back and forth; deadlines, waits and the watch over the steps are on another one."""
    year = 365 * 86_400.0
    jumps = itertools.cycle((0.0, year, -year))
    begun = time.time()
    monkeypatch.setattr(time, "time", lambda: begun + next(jumps))

    async def main(running: PaliServe) -> None:
        for _ in range(3):
            assert await asked(running, "a") == "GIFT"
        assert running.alive()
        with pytest.raises(DeadlineExceeded):
            await running.tasks.generate(SAMPLE, Options(model="a", max_tokens=64, timeout=1e-4), "detect sign ; star ; square")
        assert await asked(running, "a") == "GIFT"

    run(settings("a"), main)
    assert next(jumps) != next(jumps)


def test_first_steps_may_take_longer() -> None:
    async def main(running: PaliServe) -> None:
        assert await asked(running, "a") == "GIFT"
        assert running._watchdog.patience() == 60
        loading = asyncio.create_task(running.load("b"))
        while running._watchdog.patience() != 600:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await loading
        assert running._watchdog.patience() == 60

    run(settings("a", "b"), main)


def test_what_is_pinned_or_was_loaded_at_the_start_stays() -> None:
    async def main(running: PaliServe) -> None:
        assert await asked(running, "pinned") == "GIFT"
        with pytest.raises(ModelNotReady, match="the log says why"):
            await asked(running, "other")
        assert warm(running) == {"first", "pinned"}
        await running.unload("pinned")
        assert await running.load("other")
        assert await asked(running, "other") == "GIFT"

    run(settings("first", "pinned", "other", room=2.5, pinned=("pinned",), preload=("first",)), main)


def test_what_is_in_use_is_given_back_only_then() -> None:
    async def main(running: PaliServe) -> None:
        options = Options(model="a", max_tokens=60, timeout=60)
        using = asyncio.create_task(running.tasks.generate(SAMPLE, options, "detect sign ; star ; square"))
        while "a" not in warm(running):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await asked(running, "b") == "GIFT"
        assert "sign" in (await using).answer.text
        assert warm(running) == {"b"}

    run(settings("a", "b", room=1.5), main)


def test_who_waits_for_a_load_keeps_the_service_from_ending() -> None:
    async def main(running: PaliServe) -> None:
        asking = asyncio.create_task(asked(running, "a"))
        while {each.state for each in running.models()} != {"loading"}:  # noqa: ASYNC110
            await asyncio.sleep(0)
        running.drain()
        assert not running.idle()
        assert await asking == "GIFT"
        assert running.idle()

    run(settings("a"), main)


def test_who_is_inside_keeps_the_service_from_ending() -> None:
    async def main(running: PaliServe) -> None:
        assert running.idle()
        with running.room():
            assert not running.idle()
        assert running.idle()

    run(settings("a"), main)


def test_threat_49_only_a_crowded_service_refuses() -> None:
    async def main(running: PaliServe) -> None:
        with ExitStack() as inside:
            while not running.crowded():
                inside.enter_context(running.room())
            with pytest.raises(Overloaded):
                inside.enter_context(running.room())
        assert not running.crowded()

    run(settings("a", preload=("a",)), main)


def test_a_load_that_nobody_waits_for_does_not_keep_it() -> None:
    async def main(running: PaliServe) -> None:
        loading = asyncio.create_task(running.load("a"))
        while {each.state for each in running.models()} != {"loading"}:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert running.idle()
        await running.stop()
        with pytest.raises(asyncio.CancelledError):
            await loading

    run(settings("a"), main)


def test_many_who_ask_at_once_for_more_than_there_is_room_for() -> None:
    async def main(running: PaliServe) -> None:
        assert await asyncio.gather(*(asked(running, name) for name in "abcabc")) == ["GIFT"] * 6
        assert len(warm(running)) == 1

    run(settings("a", "b", "c", room=1.5), main)


def test_what_does_not_fit_is_refused_with_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "free_memory_bytes", lambda: 10_000_000)
    with pytest.raises(
        OperatorError, match=r"a takes 0\.\d\d GB on cpu \(weights 0\.01 GB, slots .*\), and 0\.01 GB are free: give it fewer"
    ):
        PaliServe(settings("a", preload=("a",)), Metrics("test"))


def test_the_table_of_the_plan() -> None:
    rows = planning.table(settings("a", "b"))
    assert [row[0] for row in rows] == ["INSTANCE", "a", "b", "all of cpu", "pictures"]
    assert rows[1][1:4] == ("cpu", "float32", "2")
    assert int(rows[1][-1]) > 10
    assert rows[-2][-1].endswith("GB free")
    assert rows[-1][-2].startswith("up to")


@pytest.mark.parametrize(("asked", "machine", "count"), [(None, 2, 2), (None, 64, 4), (6, 2, 6), (0, 2, 0)])
def test_as_many_image_workers_as_cores_or_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, machine: int, count: int
) -> None:
    monkeypatch.setattr(planning, "cores", lambda: machine)
    made = settings("a").model_copy(update={"image_workers": asked})
    assert planning.image_workers(made) == count
    assert planning.table(made)[-1][3] == (f"{count} processes" if count else "")


@pytest.mark.parametrize("bound", [False, True])
def test_the_most_slots_that_fit_are_chosen(monkeypatch: pytest.MonkeyPatch, bound: bool) -> None:
    made = settings("a", "b")
    made = made.model_copy(update={"instances": tuple(each.model_copy(update={"slots": "auto"}) for each in made.instances)})
    one = planned(made)["a"]
    assert one.survey
    totals = [plan(one.survey.config, replace(one.shape, slots=count)).total for count in range(1, 11)]
    for share, chosen in ((totals[0] - 1, 1), (totals[0], 1), (totals[2], 3), (totals[9] - 1, 9), (totals[9], 10), (9 * totals[9], 10)):
        if bound:
            made = made.model_copy(update={"instance_memory_bytes": 2 * share})
        else:
            monkeypatch.setattr(planning, "free_memory_bytes", lambda share=share: -(-2 * share * 10 // 9) + 1)
        assert [each.shape.slots for each in planned(made).values()] == [chosen] * 2


def test_a_checkpoint_without_its_weights_is_planned_all_the_same(tmp_path: Path) -> None:
    """As a download that broke off leaves it."""
    (tmp_path / "config.json").write_bytes((DEMO / "checkpoints" / "shapes-224" / "config.json").read_bytes())
    (row,) = planning.table(Settings(instances=(InstanceSettings(name="far", source=str(tmp_path), preload=False),)))[1:-2]
    assert row[4] == "0.01 GB"


def test_a_checkpoint_that_is_not_here_yet() -> None:
    made = Settings(
        workers=0, image_workers=0, instances=(InstanceSettings(name="far", source="nobody/nothing", preload=False, resolution=448),)
    )
    assert planning.table(made)[1][4] == "not fetched"
    running = PaliServe(made, Metrics("test"))
    (description,) = running.models()
    assert (description.resolution, description.state) == (448, "cold")


@pytest.mark.parametrize(
    ("more", "words"),
    [({"resolution": 448}, "takes 224 pixels, not 448"), ({"source": "nobody/nothing", "preload": False}, "say its resolution")],
)
def test_resolutions_that_do_not_fit_or_are_not_known(more: dict[str, object], words: str) -> None:
    fields = {"name": "a", "source": str(DEMO / "checkpoints" / "shapes-224")} | more
    with pytest.raises(OperatorError, match=words):
        PaliServe(Settings(workers=0, image_workers=0, instances=(InstanceSettings.model_validate(fields),)), Metrics("test"))
