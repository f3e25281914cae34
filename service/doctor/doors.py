"""Who may come in: keys, certificates, and who may read and change their files."""

import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from service.access.certificates import CertificateFiles, read_certificates
from service.doctor.findings import Finding, fine, problem, warning
from service.errors import OperatorError
from service.listening import Doors
from service.settings import Settings

DAY = 86_400.0
SOON = 21 * DAY
"""Before a certificate ends, in seconds: ACME clients have made a new one by then."""


def doors(settings: Settings) -> Iterator[Finding]:
    """Keys and certificates, as the server will read them; then their files."""
    try:
        made = Doors(settings)
    except OperatorError as error:
        yield problem(str(error), "Until then the server does not start.")
        return
    yield from _rights(settings)
    if settings.tls_certificate:
        yield from _certificate(Path(settings.tls_certificate), Path(settings.tls_key or settings.tls_certificate))
    said = "with TLS" if made.certificates else "without TLS"
    who = "whoever has a key" if settings.api_keys_file or settings.admin_key or settings.anonymous is False else "everybody who reaches it"
    yield fine(f"The server listens on {settings.host}, {said}, to {who}.")


def _rights(settings: Settings) -> Iterator[Finding]:
    """Hashes of keys may be read; the key of a certificate may not."""
    if settings.api_keys_file:
        file = Path(settings.api_keys_file)
        if file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield warning(f"{file}: others may write into it, and so let themselves in.", f"chmod go-w {file}")
    if settings.tls_certificate:
        key = Path(settings.tls_key or settings.tls_certificate)
        if key.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            yield warning(f"{key}: everybody on this machine may read the certificate's key.", f"chmod o-rwx {key}")


def _certificate(certificate: Path, key: Path) -> Iterator[Finding]:
    mend = "Renew it; a running server reads the new file within seconds."
    try:
        ends = _end(certificate, key)
    except ssl.SSLCertVerificationError as error:
        yield problem(f"{certificate}: {error.verify_message or error}.", mend)
        return
    days = (ends - time.time()) / DAY
    if days * DAY < SOON:
        yield warning(f"{certificate} ends in {days:.0f} days.", mend)
    else:
        yield fine(f"{certificate} is good for {days:.0f} days.")


def _end(certificate: Path, key: Path) -> float:
    """When it ends, in seconds since 1970, by a handshake with itself in memory.

    Errors: SSLCertVerificationError, where it is not in force.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = read_certificates(CertificateFiles(certificate, key)).context.wrap_bio(to_server, to_client, server_side=True)
    # Each of them answers the other, until both have nothing more to say.
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))
