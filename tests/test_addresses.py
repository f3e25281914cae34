"""What is an address, and what a key; neither tells of a secret."""

import pytest

from service.addresses import bearer, split_url
from service.errors import OperatorError


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://example.org", "http://[::1]:9/below/", "HTTP://host"])
def test_addresses(url: str) -> None:
    assert split_url(url, "--url").geturl().lower() == url.lower()


@pytest.mark.parametrize(
    "url", ["", "host:1", "ftp://host", "http://", "http://[::1", "http://host:no", "http://host:99999", "http://host/ä", "http://a b/"]
)
def test_what_is_none_is_told_with_an_example(url: str) -> None:
    with pytest.raises(OperatorError, match=r"--url .*no address; one looks like http://127.0.0.1:8000"):
        split_url(url, "--url")


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(OperatorError, match="--key") as raised:
        split_url("http://me:secret@host:1", "--url")
    assert "secret" not in str(raised.value)


def test_a_key_as_a_file_holds_it() -> None:
    assert bearer("pali_a\n") == "Bearer pali_a"


@pytest.mark.parametrize("key", [" ", "secret\nX-Other: 1", "secret\u00fc", "secret\x00"])
def test_what_no_header_holds_is_no_key(key: str) -> None:
    with pytest.raises(OperatorError, match="no key") as raised:
        bearer(key)
    assert "secret" not in str(raised.value)
