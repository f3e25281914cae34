"""Certificates for tests: an authority of one's own, and what it signs."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AN_HOUR_AGO, IN_TWO_DAYS = timedelta(hours=-1), timedelta(days=2)


class Authority:
    """Signs certificates. ``certificate`` is its own, as PEM."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _pem(self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None)))

    def write(self, certificate: Path, key: Path, begins: timedelta = AN_HOUR_AGO, ends: timedelta = IN_TWO_DAYS) -> None:
        """A certificate for this machine and its key, to files; for servers and clients alike. ``begins`` and ``ends``: from now."""
        made = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        certificate.write_bytes(_pem(self._signed(name, made, names, (begins, ends))))
        form = serialization.PrivateFormat.PKCS8
        key.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))

    def _signed(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        valid: tuple[timedelta, timedelta] = (AN_HOUR_AGO, IN_TWO_DAYS),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now + valid[0])
        builder = builder.not_valid_after(now + valid[1]).add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
