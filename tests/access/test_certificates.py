"""Certificates in handshakes, without a server."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access.certificates import CertificateError, CertificateFiles, newest_context, read_certificates
from service.access.watched import Watched
from tests.end_to_end.authority import Authority

Pair = tuple[Authority, Authority]


@pytest.fixture(scope="module")
def authorities() -> Pair:
    return Authority("one"), Authority("other")


@pytest.fixture
def files(tmp_path: Path, authorities: Pair) -> CertificateFiles:
    found = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")
    authorities[0].write(found.certificate, found.key)
    (tmp_path / "ca.crt").write_bytes(authorities[0].certificate)
    return found


def client(folder: Path, trusted: Authority, own: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trusted.certificate.decode())
    context.check_hostname = False
    if own:
        own.write(folder / "client.crt", folder / "client.key")
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
    return context


def shake(server: ssl.SSLContext, caller: ssl.SSLContext, name: str | None = None, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """Both sides, until they agree; returns the client's. Errors: ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        caller.wrap_bio(to_client, to_server, server_hostname=name, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]

    def turns() -> Iterator[bool]:
        for _ in range(10):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    yield False
                else:
                    yield True

    # Once more than both are done: TLS 1.3 tells a client's refusal behind the handshake.
    done = list(turns())
    assert all(done[-2:])
    return ends[0]


def serial(end: ssl.SSLObject) -> str:
    told = end.getpeercert()
    assert told
    return str(told["serialNumber"])


@pytest.mark.parametrize("name", [None, "localhost"])
def test_each_handshake_is_with_the_newest(tmp_path: Path, files: CertificateFiles, authorities: Pair, name: str | None) -> None:
    one, other = authorities
    watched = Watched(files.all(), lambda: read_certificates(files))
    server = newest_context(watched)
    first = serial(shake(server, client(tmp_path, one, one), name))
    with pytest.raises(ssl.SSLError):
        shake(server, client(tmp_path, one, other), name)
    with pytest.raises(ssl.SSLError):
        shake(server, client(tmp_path, one), name)
    one.write(files.certificate, files.key)
    (tmp_path / "ca.crt").write_bytes(other.certificate)
    watched.look()
    assert serial(shake(server, client(tmp_path, one, other), name)) != first
    with pytest.raises(ssl.SSLError):
        shake(server, client(tmp_path, one, one), name)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_is_no_longer_trusted_cannot_go_on_with_an_old_session(
    tmp_path: Path, files: CertificateFiles, authorities: Pair, newest: ssl.TLSVersion
) -> None:
    one, other = authorities
    watched = Watched(files.all(), lambda: read_certificates(files))
    server, caller = newest_context(watched), client(tmp_path, one, one)
    caller.maximum_version = newest
    session = shake(server, caller).session
    (tmp_path / "ca.crt").write_bytes(other.certificate)
    watched.look()
    with pytest.raises(ssl.SSLError):
        shake(server, caller, session=session)


def test_old_protocols_are_refused(tmp_path: Path, files: CertificateFiles, authorities: Pair) -> None:
    caller = client(tmp_path, authorities[0], authorities[0])
    caller.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        caller.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake(read_certificates(files).context, caller)


def test_what_the_files_get_wrong(tmp_path: Path, files: CertificateFiles, authorities: Pair) -> None:
    right = files.key.read_bytes()
    authorities[0].write(tmp_path / "another.crt", files.key)
    with pytest.raises(CertificateError, match=r"tls.key is not the key of .*tls.crt"):
        read_certificates(files)
    for wrong in (b"", b"not PEM", right[:-40]):
        files.key.write_bytes(wrong)
        with pytest.raises(CertificateError, match=r"tls.key must be a certificate and its key"):
            read_certificates(files)
    files.key.write_bytes(right)
    for wrong in (b"", b"not PEM"):
        (tmp_path / "ca.crt").write_bytes(wrong)
        with pytest.raises(CertificateError, match=r"ca.crt: certificates are needed"):
            read_certificates(files)
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(CertificateError, match=r"ca.crt: No such file"):
        read_certificates(files)


def test_a_pair_that_does_not_match_changes_nothing(tmp_path: Path, files: CertificateFiles, authorities: Pair) -> None:
    watched = Watched(files.all(), lambda: read_certificates(files))
    before = watched.value
    authorities[0].write(tmp_path / "another.crt", files.key)
    watched.look()
    assert watched.value is before
