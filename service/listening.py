"""Where the process listens, who may reach it there, and under which certificate: read from the settings before any model is loaded."""

import socket
from pathlib import Path
from typing import Any

from service.access.certificates import CertificateFiles, Certificates, read_certificates
from service.access.gate import Gate, anonymous_allowed, is_loopback
from service.access.keys import Key, KeysError, Role, digest, read_keys
from service.access.watched import Watched
from service.errors import OperatorError
from service.settings import Settings
from service.transports.rest.browsers import LOCAL_HOSTS
from service.transports.rest.guard import Access


class ServingError(OperatorError):
    """The process cannot listen where or as it was told to."""


ADMIN = "admin_key"
"""The name of the key that the settings themselves hold."""


class Doors:
    """All that stands between the network and the service."""

    def __init__(self, settings: Settings) -> None:
        """Errors: OperatorError."""
        certificates, keys = _certificates(settings), _keys(settings)
        self.certificates = certificates
        self.watched: list[Watched[Any]] = [each for each in (certificates, keys if settings.api_keys_file else None) if each]
        """Files that are to be looked at while the process serves."""
        hosts = [settings.host, *([settings.admin_host] if settings.admin_port and settings.admin_host else [])]
        anonymous = anonymous_allowed(settings.anonymous, hosts, keys.value, settings.api_keys_file is not None)
        self.gate = Gate(lambda: keys.value, anonymous, lenient=settings.api_keys_file is None)
        allowed = settings.allowed_hosts
        if allowed is None and all(is_loopback(each) for each in hosts):
            allowed = (*LOCAL_HOSTS, *(f"[{each}]" if ":" in each else each for each in hosts))
        self.access = Access(self.gate, allowed, settings.cors_origins)


def _certificates(settings: Settings) -> Watched[Certificates] | None:
    if settings.tls_certificate is None:
        return None
    # The key may stand in the certificate's file.
    client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    files = CertificateFiles(Path(settings.tls_certificate), Path(settings.tls_key or settings.tls_certificate), client_ca)
    return Watched(files.all(), lambda: read_certificates(files))


def _keys(settings: Settings) -> Watched[tuple[Key, ...]]:
    secret = settings.admin_key.get_secret_value() if settings.admin_key else ""
    fixed = (Key(ADMIN, digest(secret), Role.ADMIN),) if secret else ()
    if settings.api_keys_file is None:
        return Watched((), lambda: fixed)
    file = Path(settings.api_keys_file)

    def read() -> tuple[Key, ...]:
        found = read_keys(file)
        if fixed and any(each.name == ADMIN for each in found):
            raise KeysError(f"{file}: {ADMIN} is the name of the key in the settings: give this one another name.")
        return *fixed, *found

    return Watched((file,), read)


def bind(host: str, port: int, flag: str) -> socket.socket:
    """A socket that holds a port, and does not listen yet. ``flag`` is what sets the port. Errors: ServingError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol named, because asyncio turns Nagle's delay off for such sockets only: answers would wait 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ServingError(f"cannot listen on {host}:{port}: {error.strerror}. Give another one with --host and {flag}.") from None
    listener.set_inheritable(True)
    return listener
