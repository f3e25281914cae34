"""Keys and certificates: good ones, old ones, and files that others may read or change."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.access.keys import Key, block, digest
from service.doctor.doors import doors
from service.doctor.findings import Finding, Level
from service.settings import Settings
from tests.end_to_end.authority import Authority


def wrong(settings: Settings) -> list[Finding]:
    return [each for each in doors(settings) if each.level is not Level.OK]


def tls(folder: Path, **valid: timedelta) -> Settings:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    Authority("an authority").write(certificate, key, **valid)
    key.chmod(0o600)
    return Settings(tls_certificate=str(certificate), tls_key=str(key))


def test_by_default_all_is_well() -> None:
    (found,) = doors(Settings())
    assert found.level is Level.OK
    assert "everybody" in found.said


def test_others_could_reach_it() -> None:
    (found,) = doors(Settings(host="0.0.0.0"))
    assert found.level is Level.PROBLEM
    assert "nothing says who may call" in found.said


def test_a_certificate_that_is_good(tmp_path: Path) -> None:
    found = list(doors(tls(tmp_path, ends=timedelta(days=90))))
    assert [each.level for each in found] == [Level.OK, Level.OK]
    assert "good for 90 days" in found[0].said


@pytest.mark.parametrize(
    ("valid", "level", "words"),
    [
        ({"ends": timedelta(days=5)}, Level.WARNING, "ends in 5 days"),
        ({"begins": timedelta(days=-9), "ends": timedelta(days=-1)}, Level.PROBLEM, "expired"),
        ({"begins": timedelta(days=1), "ends": timedelta(days=9)}, Level.PROBLEM, "not yet valid"),
    ],
)
def test_a_certificate_that_is_not(tmp_path: Path, valid: dict[str, timedelta], level: Level, words: str) -> None:
    (found,) = wrong(tls(tmp_path, **valid))
    assert found.level is level
    assert words in found.said
    assert "Renew" in found.mend


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    made = tls(tmp_path)
    Authority("another").write(tmp_path / "other.crt", tmp_path / "tls.key")
    (found,) = wrong(made)
    assert found.level is Level.PROBLEM
    assert "is not the key of" in found.said


def test_everybody_may_read_the_key(tmp_path: Path) -> None:
    made = tls(tmp_path, ends=timedelta(days=90))
    (tmp_path / "tls.key").chmod(0o644)
    (found,) = wrong(made)
    assert (found.level, found.mend) == (Level.WARNING, f"chmod o-rwx {tmp_path}/tls.key")


def test_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    made = Settings(api_keys_file=str(file))
    assert "No such file" in wrong(made)[0].said
    file.write_text("[[keys]]\nnmae = 1")
    assert "did you mean name?" in wrong(made)[0].said
    file.write_text(block(Key("team-a", digest("x"))))
    file.chmod(0o640)
    assert not wrong(made)
    file.chmod(0o660)
    (found,) = wrong(made)
    assert (found.level, found.mend) == (Level.WARNING, f"chmod go-w {file}")
