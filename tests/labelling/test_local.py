"""How the answers of one model here are told from those of another."""

import asyncio
from pathlib import Path

import service.demo
from service.instance_settings import InstanceSettings
from service.labelling.local import LocalLabeller
from service.labelling.prompt import parse_prompt
from service.settings import Settings

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"


def identity(checkpoint: Path) -> dict[str, str]:
    settings = Settings(instances=(InstanceSettings(name="one", source=str(checkpoint)),))
    return dict(asyncio.run(LocalLabeller(settings, None, parse_prompt("detect a"), 1).identity()))


def test_folders_of_one_name_are_two_models(tmp_path: Path) -> None:
    seen = []
    for run in ("first", "second"):
        folder = tmp_path / run / "checkpoint"
        folder.mkdir(parents=True)
        for file in DEMO.iterdir():
            (folder / file.name).symlink_to(file)
        seen.append(identity(folder))
        assert seen[-1] == identity(folder)
    first, second = seen
    assert first != second
    assert (first["model"], first["dtype"]) == (second["model"], second["dtype"])
