"""All checks, one after the other. None of them can end the examination, nor keep it from its end."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from service.doctor.findings import Check, Finding, fine, problem, warning
from service.doctor.libraries import extras, libraries, python
from service.doctor.surroundings import clock, proxies
from service.errors import OperatorError
from service.settings import Settings, SettingsError, load_settings

SECONDS = 60.0
"""That a check may take. The first one that needs torch waits for it to be imported."""


def _devices(settings: Settings) -> Iterator[Finding]:
    from service.doctor.devices import devices  # noqa: PLC0415

    yield from devices(settings)


def _models(settings: Settings) -> Iterator[Finding]:
    from service.doctor.checkpoints import checkpoints  # noqa: PLC0415

    yield from checkpoints(settings)


def _memory(settings: Settings) -> Iterator[Finding]:
    from service.doctor.capacity import memory  # noqa: PLC0415

    yield from memory(settings)


def _machine(settings: Settings) -> Iterator[Finding]:
    from service.doctor.capacity import files, processors, shared_memory  # noqa: PLC0415

    for check in (processors, files, shared_memory):
        yield from check(settings)


def _ports(settings: Settings) -> Iterator[Finding]:
    from service.doctor.ports import ports  # noqa: PLC0415

    yield from ports(settings)


def _doors(settings: Settings) -> Iterator[Finding]:
    from service.doctor.doors import doors  # noqa: PLC0415

    yield from doors(settings)


OF_ANY: Sequence[tuple[str, Check]] = (("python", python), ("libraries", libraries), ("clock", clock), ("proxies", proxies))
"""Checks that need no settings."""

OF_SETTINGS: Sequence[tuple[str, Check]] = (
    ("extras", extras),
    ("devices", _devices),
    ("models", _models),
    ("memory", _memory),
    ("machine", _machine),
    ("ports", _ports),
    ("access", _doors),
)
"""What they are about is imported by each for itself: what is broken there is then only its own."""


def examine(config: Path | None, environ: Mapping[str, str], seconds: float = SECONDS) -> Iterator[Finding]:
    """What every check says, as soon as it does."""
    for about, check in OF_ANY:
        yield from run(about, check, Settings(), seconds)
    settings, found = _settings(config, environ)
    yield from (replace(each, about="settings") for each in found)
    for about, check in OF_SETTINGS if settings else ():
        yield from run(about, check, settings or Settings(), seconds)


def run(about: str, check: Check, settings: Settings, seconds: float) -> Iterator[Finding]:
    """What one check says within its time."""
    said: SimpleQueue[Finding | None] = SimpleQueue()

    def look() -> None:
        try:
            for each in check(settings):
                said.put(each)
        except OperatorError as error:
            said.put(problem(str(error), "What it names is to be mended first."))
        except BaseException as error:
            first = next(iter(str(error).strip().splitlines()), "")
            said.put(
                problem(f"This could not be looked at ({type(error).__name__}: {first}).", "See what is said of libraries, or reinstall.")
            )
        said.put(None)

    # One that hangs is left behind, and does not keep the process from ending.
    threading.Thread(target=look, daemon=True).start()
    while True:
        try:
            found = said.get(timeout=seconds)
        except Empty:
            found = warning(f"This took longer than {seconds:g} s, and was given up.", "A disk or a network that hangs may be the cause.")
            yield replace(found, about=about)
            return
        if found is None:
            return
        yield replace(found, about=about)


def _settings(config: Path | None, environ: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            settings = load_settings(config, {}, environ)
        except SettingsError as error:
            return None, [problem(str(error), "Mend it, and run this again: what depends on the settings was not looked at.")]
    found = [warning(f"{each.message}.", "Or give the Service another name.") for each in told]
    where = str(config) if config else "No file is given: the defaults"
    return settings, [*found, fine(f"{where} and the environment can be used.")]
