"""Who may change files that are trusted: a stranger with an account on the machine should not."""

import logging
import os
import stat
from pathlib import Path

from service.errors import OperatorError

logger = logging.getLogger(__name__)


def warn_of_others(folder: Path) -> None:
    """Tell the operator of what anybody on the machine could put another model into. Not refused: volumes in containers often are so."""
    found = writable_by_others(folder)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        logger.warning("everybody on this machine may change %s%s, which the model is read from", found[0], more)


def writable_by_others(folder: Path) -> list[Path]:
    """Of a folder, its files, where they really are, and the folders above: those that anybody may change or replace."""
    files = [folder.absolute(), *folder.iterdir()]
    real = [path.resolve() for path in files]
    above = [parent for path in (*files, *real) for parent in path.parents]
    return sorted({path for path in (*files, *real, *above) if _is_open(path)})


def check_compile_cache() -> None:
    """torch.compile keeps code in a folder with a known name, and runs what it finds there. Errors: OperatorError."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # noqa: PLC0415

    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default_cache_dir())
    try:
        found = folder.stat()
    except OSError:
        return
    if found.st_uid != os.geteuid() or _is_open(folder):
        raise OperatorError(f"{folder}: others may write here, and compile runs what it finds in it; set TORCHINDUCTOR_CACHE_DIR.")


def _is_open(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    # In a sticky folder, such as /tmp, nobody can replace what is another's.
    return bool(mode & stat.S_IWOTH) and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)
