"""TLS on both ports of the real server, whose files change while it serves."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated.paligemma_pb2_grpc import PaliGemmaServiceStub
from tests.end_to_end.authority import Authority
from tests.end_to_end.conftest import Server, free_port
from tests.end_to_end.test_life_cycle import refused, start


@dataclass
class Client:
    """What a client shows and trusts."""

    folder: Path
    trusted: Authority
    own: Authority | None

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=self.trusted.certificate.decode())
        if self.own:
            self.own.write(self.folder / "client.crt", self.folder / "client.key")
            made.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        return made

    def channel(self, port: int) -> grpc.Channel:
        chain = key = None
        if self.own:
            self.own.write(self.folder / "client.crt", self.folder / "client.key")
            chain, key = (self.folder / "client.crt").read_bytes(), (self.folder / "client.key").read_bytes()
        credentials = grpc.ssl_channel_credentials(self.trusted.certificate, key, chain)
        return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=(("grpc.use_local_subchannel_pool", 1),))


@dataclass
class Tls:
    """A server whose clients need certificates."""

    server: Server
    folder: Path
    servers: Authority
    admin_port: int

    def reached(self, client: Client) -> tuple[bool, bool]:
        """Whether a new connection over HTTP, and one over gRPC, is agreed on."""
        try:
            over_http = httpx.get(f"{self.server.url}/livez", verify=client.context(), timeout=60).status_code == 200
        except httpx.TransportError:
            over_http = False
        with client.channel(self.server.grpc_port) as channel:
            try:
                PaliGemmaServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=60)  # type: ignore[no-untyped-call]
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return over_http, False
        return over_http, True


@pytest.fixture(scope="module")
def callers() -> Authority:
    """Who signs clients' certificates."""
    return Authority("callers")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, endless_model: Path, callers: Authority) -> Iterator[Tls]:
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    servers = Authority("servers")
    servers.write(folder / "tls.crt", folder / "tls.key")
    (folder / "ca.crt").write_bytes(callers.certificate)
    config = folder / "paliserve.toml"
    config.write_text(
        f'workers = 0\nadmin_port = {port}\ntls_certificate = "{folder / "tls.crt"}"\ntls_key = "{folder / "tls.key"}"\n'
        f'tls_client_ca = "{folder / "ca.crt"}"\n[[instances]]\nname = "endless"\nsource = "{endless_model}"\n'
    )
    server = Server("--config", str(config), tls=Client(folder, servers, callers).context())
    yield Tls(server, folder, servers, port)
    server.close()


def test_both_ports_and_that_of_administrators_speak_tls(tls: Tls, callers: Authority, tmp_path: Path) -> None:
    known = Client(tmp_path, tls.servers, callers)
    assert tls.reached(known) == (True, True)
    assert httpx.get(f"https://127.0.0.1:{tls.admin_port}/metrics", verify=known.context(), timeout=60).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{tls.admin_port}/metrics", timeout=60)


def test_clients_without_a_certificate_or_with_a_stranger_s_are_refused(tls: Tls, tmp_path: Path) -> None:
    for own in (None, tls.servers, Authority("strangers")):
        assert tls.reached(Client(tmp_path, tls.servers, own)) == (False, False)


def test_new_files_are_for_new_connections_and_streams_go_on(tls: Tls, callers: Authority, tmp_path: Path, sample: bytes) -> None:
    known, later = Client(tmp_path, tls.servers, callers), Authority("later")
    form = {"stream": "true", "prompt": "caption en", "max_tokens": "1000"}
    request = pb.StreamGenerateRequest(image=sample, prompt="caption en", max_tokens=1000)
    with known.channel(tls.server.grpc_port) as channel:
        events = PaliGemmaServiceStub(channel).StreamGenerate(request)  # type: ignore[no-untyped-call]
        with tls.server.client.stream("POST", "/v1/generate", files={"image": sample}, data=form) as response:
            lines = response.iter_lines()
            next(events)
            next(lines)
            tls.servers.write(tls.folder / "tls.crt", tls.folder / "tls.key")
            (tls.folder / "ca.crt").write_bytes(later.certificate)
            tls.server.wait_for("read anew")
            # The last write may have been seen by a look of its own.
            assert tls.reached(Client(tmp_path, tls.servers, later)) == (True, True)
            assert tls.reached(known) == (False, False)
            assert any("event: result" in line for line in lines)
        last = [each.WhichOneof("event") for each in events][-1]
    assert last == "result"
    (tls.folder / "ca.crt").write_bytes(callers.certificate)
    tls.server.wait_for("read anew")
    assert tls.reached(known) == (True, True)


def test_files_that_do_not_belong_together_change_nothing(tls: Tls, callers: Authority, tmp_path: Path) -> None:
    right = (tls.folder / "tls.key").read_bytes()
    tls.servers.write(tmp_path / "another.crt", tls.folder / "tls.key")
    tls.server.wait_for(r"stays in force: \S+tls.key is not the key of \S+tls.crt")
    assert tls.reached(Client(tmp_path, tls.servers, callers)) == (True, True)
    (tls.folder / "tls.key").write_bytes(right)
    tls.server.wait_for("read anew")


def test_who_never_agrees_is_cut_off(tls: Tls) -> None:
    url = httpx.URL(tls.server.url)
    address = (url.host, url.port)
    with socket.create_connection(address, timeout=60) as silent, socket.create_connection(address, timeout=60) as slow:
        slow.sendall(b"\x16\x03\x01\x02")
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""


def test_what_hinders_the_start_is_told_in_one_line(tmp_path: Path) -> None:
    authority = Authority("one")
    authority.write(tmp_path / "tls.crt", tmp_path / "other.key")
    authority.write(tmp_path / "other.crt", tmp_path / "tls.key")
    ports = ("serve", "--port", "0", "--grpc-port", "0")
    files = {"PALISERVE_TLS_CERTIFICATE": str(tmp_path / "tls.crt"), "PALISERVE_TLS_KEY": str(tmp_path / "tls.key")}
    refused(start(*ports, environ=files), "tls.key is not the key of", "tls.crt")
    refused(start(*ports, environ=files | {"PALISERVE_TLS_CERTIFICATE": "/no/such"}), "/no/such", "No such file")
    refused(start(*ports, environ={"PALISERVE_TLS_KEY": "x"}), "tls_key", "tls_certificate is needed")
