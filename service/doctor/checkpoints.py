"""What is configured to be served: whether it is here, whole, and who may change it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from service.doctor.findings import Finding, fine, problem, warning
from service.errors import OperatorError
from service.instance_settings import InstanceSettings
from service.model.adapters import CONFIG as ADAPTER_CONFIG
from service.model.adapters import adapter_folder, read_adapter
from service.model.folder_rights import writable_by_others
from service.model.hub import cached, is_fetched, is_offline, reach
from service.model.loading import open_checkpoint
from service.planning import demo_settings, source
from service.settings import Settings

NEEDED = (("config.json",), ("processor_config.json", "preprocessor_config.json"), ("tokenizer.json", "tokenizer.model"))
"""Files of which one each must be there. What the libraries say where one is not is hard to read."""

SECONDS = 5.0
"""That the hub may take to answer."""


def checkpoints(settings: Settings) -> Iterator[Finding]:
    """Each instance's checkpoint and adapters: read, but for the weights themselves."""
    whole = []
    for wanted in settings.instances or demo_settings():
        found = [*_checkpoint(wanted, settings), *_adapters(wanted)]
        yield from found
        if not found:
            whole.append(wanted.name)
    if whole:
        yield fine(f"{', '.join(whole)}: here, and whole.")


def _checkpoint(wanted: InstanceSettings, settings: Settings) -> Iterator[Finding]:
    # How it is to be held is looked at with the devices.
    asked = replace(source(wanted, settings), device="cpu", dtype=None, quantization=None)
    mend = "Give it a whole folder of a checkpoint."
    if is_fetched(wanted.source):
        mend = _fetch(wanted.source, wanted.revision)
        folder = cached(wanted.source, wanted.revision)
        if folder is None or not (folder / "config.json").is_file():
            yield from _of_the_hub(wanted.name, wanted.source, wanted.revision, "config.json")
            return
        asked = replace(asked, checkpoint=str(folder))
    for names in NEEDED if Path(asked.checkpoint).is_dir() else ():
        if not any((Path(asked.checkpoint) / name).is_file() for name in names):
            yield problem(f"{wanted.name}: {asked.checkpoint} has no {' or '.join(names)}.", mend)
            return
    try:
        open_checkpoint(asked)
        others = writable_by_others(Path(asked.checkpoint))
    except OperatorError as error:
        yield problem(f"{wanted.name}: {error}", mend)
        return
    if others:
        yield warning(f"{wanted.name}: everybody on this machine may change {others[0]}, which it is read from.", f"chmod o-w {others[0]}")


def _adapters(wanted: InstanceSettings) -> Iterator[Finding]:
    for each in wanted.adapters:
        name, here = f"{wanted.name}, adapter {each.name}", each.source
        if is_fetched(each.source):
            folder = cached(each.source, each.revision)
            if folder is None:
                yield from _of_the_hub(name, each.source, each.revision, ADAPTER_CONFIG)
                continue
            here = str(folder)
        try:
            read_adapter(adapter_folder(here))
        except OperatorError as error:
            yield problem(f"{name}: {error}", "Give it a folder as peft writes it, or leave it out.")


def _of_the_hub(name: str, repository: str, revision: str | None, file: str) -> Iterator[Finding]:
    """Of what was not fetched yet."""
    if is_offline():
        yield problem(
            f"{name}: {repository} is not in the cache, and HF_HUB_OFFLINE keeps the hub from being asked.", _fetch(repository, revision)
        )
        return
    try:
        reach(repository, revision, file, SECONDS)
    except OperatorError as error:
        yield problem(f"{name}: {error}", f"Mend that, then {_fetch(repository, revision)}")
    else:
        yield warning(f"{name}: {repository} is not fetched yet; the hub gives it, and a start waits for it.", _fetch(repository, revision))


def _fetch(repository: str, revision: str | None) -> str:
    return f"paliserve download {repository}" + (f" --revision {revision}" if revision else "")
