"""Fetching checkpoints from the hub: into its cache, whole or not at all, with what hinders it in words."""

import hashlib
import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from tqdm.auto import tqdm

from service.errors import OperatorError
from service.observability.logs import is_terminal

FILES = ("*.json", "*.safetensors", "tokenizer.model", "vae-oid.npz")
"""What is fetched of a checkpoint: no other format of weights, and no code."""

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")

CLOCKS_APART = 60.0
"""Seconds by which a file server's clock may be behind this machine's."""


class FetchError(OperatorError):
    """A checkpoint cannot be fetched."""


def is_fetched(source: str) -> bool:
    """Whether it comes from the hub: it is no folder here, and is named like what is there."""
    return not Path(source).is_dir() and HUB_ID.fullmatch(source) is not None


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint in the hub's cache. Files that are there are not fetched again; a transfer that breaks off goes on.

    A terminal sees a bar of its bytes. The token is taken from HF_TOKEN or the hub's own login; HF_HUB_OFFLINE=1 asks the cache alone,
    HF_HOME says where it is. What was fetched now is compared with its checksums. Errors: FetchError.
    """
    began = time.time()
    # It writes lines of its own, of several lines each, beside those of our log.
    logging.getLogger("huggingface_hub").handlers.clear()
    bars: list[tqdm[Any]] = []
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES), tqdm_class=_bar(name, bars)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FetchError(f"{name}: {_reason(error, name, revision)}") from error
    finally:
        # The library leaves them open, and the next line would be written behind them.
        for each in bars:
            each.close()
    verify(folder, began - CLOCKS_APART)
    return folder


def cached(name: str, revision: str | None = None) -> Path | None:
    """The folder of a checkpoint that was fetched before, wholly or in part; nobody is asked."""
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE keeps the hub from being asked."""
    return bool(constants.HF_HUB_OFFLINE)


def reach(name: str, revision: str | None, file: str, seconds: float) -> None:
    """Ask the hub, within ``seconds``, whether it would give a file of a checkpoint. Errors: FetchError."""
    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=seconds)
    except Exception as error:
        # Also those of whatever HTTP library it uses.
        raise FetchError(f"{name}: {_reason(error, name, revision)}") from error


def cached_config(name: str, revision: str | None = None) -> Path | None:
    """A checkpoint's config.json, where it was fetched before."""
    found = try_to_load_from_cache(name, "config.json", revision=revision) if HUB_ID.fullmatch(name) else None
    return Path(found) if isinstance(found, str) else None


def verify(folder: Path, since: float = 0.0) -> int:
    """Compare the large files of a checkpoint with the checksums that the hub names them by; returns how many.

    ``since``: leave out what was stored before, in seconds since 1970: hashing a large checkpoint takes as long as loading it.
    Errors: FetchError. A file that is not what it should be is removed, so that it is fetched anew.
    """
    checked = 0
    for path in sorted(folder.iterdir()):
        stored = path.resolve()
        # Small files are named by git's own sums.
        if not SHA256.fullmatch(stored.name) or stored.stat().st_mtime < since:
            continue
        with stored.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != stored.name:
            path.unlink()
            stored.unlink()
            raise FetchError(f"{path.name}: its SHA-256 is {found}, and should be {stored.name}; it was removed: fetch it again.")
        checked += 1
    return checked


def _bar(name: str, made: list["tqdm[Any]"]) -> type["tqdm[Any]"]:
    """What the library draws its bars with: of its three, that of all bytes that are there, and only where a person looks at it."""

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            # The other two count files, and what came over the network alone.
            shown = settings.get("unit") == "B" and not str(settings.get("desc")).startswith("Downloading bytes")
            quiet = not shown or not is_terminal(sys.stderr) or are_progress_bars_disabled()
            super().__init__(*arguments, **settings | {"desc": name, "disable": quiet, "bar_format": None, "dynamic_ncols": True})
            made.append(self)

        def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
            """Its name stays."""

    return Bar


def _reason(error: Exception, name: str, revision: str | None) -> str:
    if isinstance(error, GatedRepoError):
        return f"its licence has to be accepted once, on https://huggingface.co/{name}, by the account whose token is in HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"the hub has no revision {revision!r} of it; main, bfloat16 and float16 are usual."
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such checkpoint, or shows it only to accounts that were let in: set HF_TOKEN to the token of one."
    if isinstance(error, LocalEntryNotFoundError):
        return "it is not in the cache, and the hub cannot be asked: without a network give a folder."
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"it cannot be fetched from the hub ({first}). Without a network give a folder."
