"""Python, and what is installed in it."""

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.doctor.findings import Finding, fine, problem, warning
from service.settings import Settings

PROJECT = "paliserve"
INSTALL = "pip install -c constraints.txt -e ."
SHOWN = ("torch", "transformers", "tokenizers", "protobuf", "grpcio")
MODULES = {"quantization": "torchao", "tracing": "opentelemetry.sdk.trace"}
"""By which an extra is known to be there."""


def python(_: Settings) -> Iterator[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.maxsize < 2**32:
        yield problem(f"Python {version} is a 32-bit one, for which there is no torch.", "Install a 64-bit Python.")
    elif sys.prefix == sys.base_prefix:
        yield warning(f"Python {version} runs outside of a virtual environment.", "python3 -m venv .venv, and install into that.")
    else:
        yield fine(f"Python {version}, in {sys.prefix}.")


def libraries(_: Settings) -> Iterator[Finding]:
    """What the project needs, and what that needs in turn, against what is installed."""
    try:
        own = distribution(PROJECT)
    except PackageNotFoundError:
        yield warning(f"{PROJECT} is not installed, its source alone is here: versions were not looked at.", INSTALL)
        return
    wrong = list(unmet(own, set()))
    for needed, by, found in wrong:
        there = f"{needed.name} {found} is installed" if found else f"{needed.name} is not installed"
        yield problem(
            f"{there}, and {by} needs {needed.name}{needed.specifier}.", f"{INSTALL}, or pip install '{needed.name}{needed.specifier}'"
        )
    if not wrong:
        yield fine(", ".join(f"{name} {distribution(name).version}" for name in SHOWN) + ": these and all others go together.")
    yield from _stubs()


def unmet(of: Distribution, seen: set[str]) -> Iterator[tuple[Requirement, str, str]]:
    """Requirements that are not met, who has them, and the version that is there instead; empty where there is none."""
    seen.add(canonicalize_name(of.name))
    for text in of.requires or []:
        needed = Requirement(text)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = distribution(needed.name)
        except PackageNotFoundError:
            yield needed, of.name, ""
            continue
        if not needed.specifier.contains(found.version, prereleases=True):
            yield needed, of.name, found.version
        if canonicalize_name(needed.name) not in seen:
            yield from unmet(found, seen)


def extras(settings: Settings) -> Iterator[Finding]:
    """What is not always installed, against what the settings ask for."""
    wanted = {
        "quantization": [each.name for each in settings.instances if each.quantization],
        "tracing": ["tracing"] if settings.tracing else [],
    }
    for extra, by in wanted.items():
        if by and not _is_there(MODULES[extra]):
            yield problem(f"{by[0]} needs what is not always installed: {extra}.", f"pip install '{PROJECT}[{extra}]'")
    told = [f"{extra} is {'' if _is_there(module) else 'not '}installed" for extra, module in MODULES.items()]
    yield fine(f"Of what is not always needed, {', '.join(told)}.")


def _stubs() -> Iterator[Finding]:
    """The generated code refuses a protobuf that it does not go with when it is imported, whatever versions say."""
    try:
        from service.transports.grpc.generated import paligemma_pb2  # noqa: F401, PLC0415
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        yield problem(f"gRPC's generated code cannot be imported: {first}", INSTALL)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
