"""The certificate that both ports show, and by whom clients' own must be signed; read anew while connections go on."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from service.access.watched import Watched
from service.errors import OperatorError


class CertificateError(OperatorError):
    """The files of a certificate cannot be used."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files. ``client_ca``: who signs the certificates of clients; None: they need none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def all(self) -> list[Path]:
        """Those there are."""
        return [each for each in (self.certificate, self.key, self.client_ca) if each]


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files hold: as bytes for gRPC, and as a context for HTTP."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


def read_certificates(files: CertificateFiles) -> Certificates:
    """Read the files, and see that they belong together. Errors: CertificateError."""
    try:
        contents = [each.read_bytes() for each in files.all()]
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror or 'cannot be read'}.") from None
    client_ca = contents[2] if files.client_ca else None
    return Certificates(contents[0], contents[1], client_ca, _context(files))


def _context(files: CertificateFiles) -> ssl.SSLContext:
    """For handshakes from now on: TLS 1.2 or newer, as gRPC has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password: the library would ask for one on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"{files.key} is not the key of {files.certificate}: give the two that belong together.") from None
        raise CertificateError(
            f"{files.certificate} and {files.key} must be a certificate and its key, in PEM and without a password."
        ) from None
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError:
            raise CertificateError(f"{files.client_ca}: certificates are needed, in PEM, of who signs those of clients.") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again is not verified again, and who signs may be another by then.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def newest_context(certificates: Watched[Certificates]) -> ssl.SSLContext:
    """A context in which every handshake is with what the files say by then. Open connections stay as they are."""
    context = certificates.value.context

    def newest(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        # Called for clients without SNI too.
        connection.context = certificates.value.context

    context.sni_callback = newest
    return context
