"""Servers that commands ask: their URLs, and the keys that they are shown."""

from urllib.parse import SplitResult, urlsplit

from service.errors import OperatorError

PORTS = {"http": 80, "https": 443}


def split_url(url: str, flag: str, example: str = "http://127.0.0.1:8000") -> SplitResult:
    """The parts of a URL of HTTP. Errors: OperatorError, which does not repeat a password."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise OperatorError(f"{flag}: an address has no user and no password; --key or PALISERVE_KEY gives a key.")
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in PORTS and parts.hostname and (parts.port or 1) and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        is_good = False
    if not is_good:
        raise OperatorError(f"{flag} {url}: this is no address; one looks like {example}.")
    return parts


def bearer(key: str) -> str:
    """``Authorization`` with a key; white space around it, as of a file that it was read from, is no part of it.

    Errors: OperatorError, which does not repeat the key.
    """
    sent = key.strip()
    if not (sent and sent.isascii() and sent.isprintable()):
        raise OperatorError("--key or PALISERVE_KEY: this is no key; there are letters, digits and signs of ASCII in one.")
    return f"Bearer {sent}"
