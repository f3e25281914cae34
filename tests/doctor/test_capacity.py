"""Memory, cores and files: enough, and too little."""

from pathlib import Path

import service.demo
from service.doctor.capacity import files, memory, processors, shared_memory
from service.doctor.findings import Level
from service.instance_settings import InstanceSettings
from service.machine import cores
from service.settings import Settings

DEMO = str(Path(service.demo.__file__).parent / "checkpoints" / "shapes-224")


def test_the_embedded_models_fit() -> None:
    (found,) = memory(Settings())
    assert found.level is Level.OK
    assert "GB are free" in found.said


def test_more_slots_than_there_is_memory_for() -> None:
    greedy = InstanceSettings(name="greedy", source=DEMO, slots=1024, max_prompt_tokens=4096)
    (found,) = memory(Settings(workers=900, instances=(greedy,)))
    assert found.level is Level.PROBLEM
    assert "greedy takes" in found.said


def test_a_vision_cache_larger_than_memory() -> None:
    (found,) = memory(Settings(instances=(InstanceSettings(name="a", source=DEMO, vision_cache_bytes=10**14),)))
    assert found.level is Level.WARNING
    assert "vision_cache_bytes" in found.mend


def test_memory_of_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (found,) = memory(Settings(instances=(InstanceSettings(name="a", source=str(tmp_path)),)))
    assert found.level is Level.WARNING
    assert "not known" in found.said


def test_more_threads_and_workers_than_cores() -> None:
    assert [each.level for each in processors(Settings())] == [Level.OK if cores() > 1 else Level.WARNING]
    for settings in (Settings(threads=1000), Settings(workers=1000)):
        (found,) = processors(settings)
        assert found.level is Level.WARNING
        assert "1000" in found.said


def test_the_shared_folder(tmp_path: Path) -> None:
    (found,) = shared_memory(Settings(), tmp_path)
    assert found.level is Level.OK
    (found,) = shared_memory(Settings(), tmp_path / "none")
    assert found.level is Level.PROBLEM
    assert not list(shared_memory(Settings(workers=0), tmp_path / "none"))


def test_files_enough() -> None:
    (found,) = files(Settings(max_connections=1))
    assert found.level is Level.OK
