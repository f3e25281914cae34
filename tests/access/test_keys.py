"""Keys: made, written, read, and what is told of those that cannot be read."""

import hashlib
import re
from pathlib import Path

import pytest

from service.access.keys import HASH, Key, KeysError, Limits, Role, block, digest, new_key, read_keys

HASHES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(3)]
ONE = f'[[keys]]\nname = "a"\nhash = "sha256:{HASHES[0]}"\n'


def read(folder: Path, text: str | bytes) -> tuple[Key, ...]:
    file = folder / "keys.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_keys(file)


def test_a_key_is_random_and_long() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"pali_[A-Za-z0-9_-]{43}", each) for each in made)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    keys = (
        Key("team-a", digest(new_key()), Role.USER, Limits(60, 120, 4)),
        Key("boss", digest(new_key()), Role.ADMIN),
        Key("b", digest(new_key()), limits=Limits(concurrent=1)),
    )
    assert read(tmp_path, "\n".join(map(block, keys))) == keys


def test_the_file_holds_no_key(tmp_path: Path) -> None:
    sent = new_key()
    written = block(Key("a", digest(sent)))
    assert sent not in written
    assert f"sha256:{hashlib.sha256(sent.encode()).hexdigest()}" in written
    assert HASH.search(written)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", "", ("[[keys]]", "paliserve key")),
        ("keys = 3", "", ("[[keys]]",)),
        ("keys = [3]", "", ("[[keys]]",)),
        ("port = 3\n" + ONE, ":1", ("port", "nothing else")),
        (ONE + "role = 'root'\n", ":4", ("keys.0.role", '"user" or "admin"')),
        (ONE + "rolle = 'user'\n", ":4", ("keys.0.rolle", "did you mean role?")),
        (ONE + "zzz = 1\n", ":4", ("keys.0.zzz", "there are name, hash, role")),
        (ONE + "concurrent = 0\n", ":4", ("keys.0.concurrent", "whole number from 1")),
        (ONE + "concurrent = true\n", ":4", ("keys.0.concurrent",)),
        (ONE + "images_per_minute = 1.5\n", ":4", ("keys.0.images_per_minute",)),
        (ONE + "requests_per_minute = '9'\n", ":4", ("keys.0.requests_per_minute",)),
        (f'[[keys]]\nhash = "sha256:{HASHES[0]}"', ":1", ("keys.0.name",)),
        ('[[keys]]\nname = "a b"\n', ":2", ("keys.0.name", "letters")),
        (ONE + '\n[[keys]]\nname = "b"\n', ":5", ("keys.1.hash", "64 hexadecimal")),
        (ONE + '\n[[keys]]\nname = "b"\nhash = "pali_secret"\n', ":7", ("keys.1.hash",)),
        (ONE + f'\n[[keys]]\nname = "a"\nhash = "sha256:{HASHES[1]}"\n', ":6", ("keys.1.name", "twice")),
        (ONE + f'\n[[keys]]\nname = "b"\nhash = "sha256:{HASHES[0]}"\n', ":7", ("keys.1.hash", "the same")),
        ("[[keys]", "", ("not TOML",)),
        (b"\xff", "", ("not TOML",)),
    ],
)
def test_what_a_file_gets_wrong(tmp_path: Path, text: str | bytes, line: str, words: tuple[str, ...]) -> None:
    with pytest.raises(KeysError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'keys.toml'}{line}: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    # Whoever writes a key where its hash belongs does not find it in the log.
    assert "pali_secret" not in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(KeysError, match=str(path)):
            read_keys(path)


def test_what_could_not_be_read_back_is_not_written() -> None:
    for key in (Key("a b", b""), Key("", b""), Key('"', b""), Key("a", b"", limits=Limits(concurrent=0))):
        with pytest.raises(KeysError):
            block(key)
