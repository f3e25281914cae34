"""What was answered so far: a file of JSON lines beside the output, from which a run that ended anyhow is gone on with."""

import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.errors import OperatorError
from service.labelling.labelled import Labelled, from_line, to_line
from service.labelling.pictures import PictureFile

if sys.platform != "win32":
    import fcntl

FORM = 1


class Journal:
    """The first line says to what the others are answers; each other one is a picture's. Of two about one picture the later holds.

    Errors of all methods: OperatorError.
    """

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self._path = path
        self._file = file
        self._answered: dict[str, tuple[int, int, Labelled | str]] = {}

    def find(self, picture: PictureFile) -> Labelled | str | None:
        """What was found in a picture, or why it is none, if it is still the same file."""
        size, modified, answer = self._answered.get(picture.name, (0, 0, None))
        return answer if (size, modified) == (picture.size, picture.modified) else None

    def add(self, picture: PictureFile, answer: Labelled | str) -> None:
        """Write down what was found, or why it is no picture."""
        told = {"problem": answer} if isinstance(answer, str) else to_line(answer)
        self._write(_line({"file": picture.name, "size": picture.size, "modified": picture.modified, **told}))
        self._answered[picture.name] = picture.size, picture.modified, answer

    def begin(self, asked: Mapping[str, str], anew: bool) -> None:
        """Take over what is there, which must be answers to what is ``asked``; or, ``anew``, forget it."""
        if not _locked(self._file):
            raise OperatorError(f"{self._path}: another run is writing to it.")
        if anew:
            self._file.truncate(0)
        self._file.seek(0)
        began = _line({"paliserve label": FORM, **asked})
        reader = io.BufferedReader(self._file)
        first = reader.readline()
        if not began.startswith(first):
            raise OperatorError(f"{self._path} holds answers to {_told(first)}: name another --out, or begin anew with --anew.")
        whole = len(first) if first == began else 0
        for line in reader:
            try:
                told = json.loads(line if line.endswith(b"\n") else b"")
                answer = told["problem"] if "problem" in told else from_line(told)
                self._answered[told["file"]] = told["size"], told["modified"], answer
            except (ValueError, TypeError, KeyError):
                # Torn by what ended the last run, and so is what stands behind it.
                break
            whole += len(line)
        reader.detach()
        self._file.truncate(whole)
        if not whole:
            self._write(began)

    def _write(self, line: bytes) -> None:
        """In one go: whoever ends this process leaves whole lines but for the last."""
        try:
            written = self._file.write(line)
        except OSError as error:
            raise _failure(self._path, error) from None
        if written != len(line):
            raise OperatorError(f"{self._path}: no room was left for a whole line.")


@contextmanager
def opened(path: Path, asked: Mapping[str, str], anew: bool) -> Iterator[Journal]:
    """The journal of a run that asks so, for this process alone. Errors: OperatorError."""
    try:
        # Unbuffered, and written at its end wherever it was read.
        file = io.FileIO(path, "a+")
    except OSError as error:
        raise _failure(path, error) from None
    with file:
        journal = Journal(path, file)
        journal.begin(asked, anew)
        yield journal


def _failure(path: Path, error: OSError) -> OperatorError:
    return OperatorError(f"{path}: {error.strerror or 'cannot be written'}.")


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told).encode() + b"\n"


def _told(first: bytes) -> str:
    try:
        told = json.loads(first)
        return f'"{told["prompt"]}" of {told["model"]} ({told["source"]}, {told["dtype"]})'
    except (ValueError, TypeError, KeyError):
        return "something else"


def _locked(file: io.FileIO) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems have no locks; whole lines are written there all the same.
        return True
    return True
