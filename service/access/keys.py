"""The keys that callers have: made here, kept as hashes in a file, read from it."""

import difflib
import hashlib
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from service.errors import OperatorError

MARK = "pali_"
"""What keys begin with, so that scanners know one that was published by mistake."""

MOST_KEYS = 1000
"""Of a file: every one of them is compared with what a caller sends."""

MOST_A_MINUTE = 10_000_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HASH = re.compile(r"sha256:([0-9a-f]{64})")


class KeysError(OperatorError):
    """A key, or a file of keys, cannot be used."""


class Role(Enum):
    """What a caller may do: ask, or change besides what is served."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may ask for; None: as much as it likes. ``concurrent``: requests at once."""

    requests_per_minute: int | None = None
    images_per_minute: int | None = None
    concurrent: int | None = None


LIMITS = tuple(each.name for each in fields(Limits))


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept. ``digest``: SHA-256 of what its caller sends; nobody guesses keys that are random, however quick the hash is."""

    name: str
    digest: bytes
    role: Role = Role.USER
    limits: Limits = Limits()


def digest(sent: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(sent.encode(errors="surrogatepass")).digest()


def new_key() -> str:
    """A key of 256 random bits."""
    return MARK + secrets.token_urlsafe(32)


def block(key: Key) -> str:
    """A key as a file holds it. Errors: KeysError, where it could not be read back."""
    if not NAME.fullmatch(key.name):
        raise KeysError(f"{key.name!r} is no name of a key: {_NAME_RULE}.")
    limits = {name: getattr(key.limits, name) for name in LIMITS if getattr(key.limits, name) is not None}
    for name, value in limits.items():
        if not _is_limit(value):
            raise KeysError(f"{name}: {_LIMIT_RULE}.")
    lines = ["[[keys]]", f'name = "{key.name}"', f'hash = "sha256:{key.digest.hex()}"', f'role = "{key.role.value}"']
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in limits.items())])


def read_keys(file: Path) -> tuple[Key, ...]:
    """All keys of a file. Errors: KeysError, which names the line, the key, and what would be right."""
    try:
        text = file.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise KeysError(f"{file}: {error.strerror or 'cannot be read'}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeysError(f"{file}: not TOML: {error}.") from None
    for name in found:
        if name != "keys":
            raise KeysError(f"{file}{_line(text, -1, name)}: {name} is not known here; a file of keys holds [[keys]] and nothing else.")
    tables = found.get("keys")
    if not isinstance(tables, list) or not 1 <= len(tables) <= MOST_KEYS or not all(isinstance(each, dict) for each in tables):
        raise KeysError(f"{file}: 1 to {MOST_KEYS} tables [[keys]] are needed; paliserve key NAME makes one.")
    return _read_all(file, text, tables)


def _read_all(file: Path, text: str, tables: list[dict[str, Any]]) -> tuple[Key, ...]:
    keys: list[Key] = []
    for number, table in enumerate(tables):

        def refuse(name: str, problem: str, number: int = number) -> KeysError:
            return KeysError(f"{file}{_line(text, number, name)}: keys.{number}.{name}: {problem}.")

        key = _read(table, refuse)
        if any(key.name == other.name for other in keys):
            raise refuse("name", f"{key.name} is given twice")
        if any(key.digest == other.digest for other in keys):
            raise refuse("hash", "another key has the same")
        keys.append(key)
    return tuple(keys)


def _read(table: Mapping[str, Any], refuse: Callable[[str, str], KeysError]) -> Key:
    known = ("name", "hash", "role", *LIMITS)
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise refuse(name, f"this is not known; {hint}")
    for name in LIMITS:
        if name in table and not _is_limit(table[name]):
            raise refuse(name, _LIMIT_RULE)
    name, kept, role = (table.get(each, default) for each, default in (("name", ""), ("hash", ""), ("role", Role.USER.value)))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise refuse("name", _NAME_RULE)
    hashed = HASH.fullmatch(kept) if isinstance(kept, str) else None
    if hashed is None:
        raise refuse("hash", '"sha256:" and 64 hexadecimal digits are needed; paliserve key NAME makes them')
    if role not in [each.value for each in Role]:
        raise refuse("role", '"user" or "admin" is needed')
    return Key(name, bytes.fromhex(hashed[1]), Role(role), Limits(**{each: table[each] for each in LIMITS if each in table}))


_NAME_RULE = "1 to 64 letters, digits, dots, lines and underscores are needed, the first of them a letter or a digit"
_LIMIT_RULE = f"a whole number from 1 to {MOST_A_MINUTE} is needed; left out, there is no limit"


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_A_MINUTE


def _line(text: str, number: int, name: str) -> str:
    """Where a name stands in table ``number``, as ``:12``; where it is missing, the table."""
    table, nearest = -1, ""
    for position, line in enumerate(text.splitlines(), start=1):
        if re.match(r"\s*\[\[\s*keys\s*\]\]", line):
            table += 1
            nearest = f":{position}" if table == number else nearest
        elif table == number and re.match(rf"""\s*["']?{re.escape(name)}["']?\s*=""", line):
            return f":{position}"
    return nearest
