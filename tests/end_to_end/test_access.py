"""Keys, quotas and the port of administrators, on the real server."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated.paligemma_pb2_grpc import PaliGemmaServiceStub
from tests.end_to_end.conftest import CHECKPOINT, Server, free_port
from tests.end_to_end.test_life_cycle import refused, start


def make_key(file: Path, name: str, *limits: str) -> str:
    """As an operator does it: the entry is appended to the file, the key is shown."""
    done = subprocess.run([sys.executable, "-m", "service.main", "key", name, *limits], capture_output=True, text=True, check=True)
    with file.open("a") as keys:
        keys.write(done.stdout)
    key = done.stderr.split()[0]
    assert key not in file.read_text()
    return key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@dataclass
class Keyed:
    """A server that wants keys, and keeps what is for administrators apart."""

    server: Server
    file: Path
    user: str
    admin: str
    inner: httpx.Client

    def reads(self, sample: bytes, key: str) -> grpc.StatusCode:
        """The status of a call over gRPC."""
        with grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}") as channel:
            try:
                stub = PaliGemmaServiceStub(channel)  # type: ignore[no-untyped-call]
                stub.Read(pb.ReadRequest(image=sample), metadata=tuple(bearer(key).items()), timeout=60)
            except grpc.RpcError as error:
                status: grpc.StatusCode = error.code()
                return status
        return grpc.StatusCode.OK

    def captions(self, sample: bytes, key: str | None, **headers: str) -> int:
        """The status of a request over HTTP."""
        sent = (bearer(key) if key else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.server.client.post("/v1/caption", files={"image": sample}, headers=sent).status_code


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    file, config, port = folder / "keys.toml", folder / "paliserve.toml", free_port()
    user, admin = make_key(file, "team-a"), make_key(file, "boss", "--role", "admin")
    lines = ["workers = 0", 'log_format = "json"', f'api_keys_file = "{file}"', f"admin_port = {port}", 'allowed_hosts = ["127.0.0.1"]']
    config.write_text("\n".join([*lines, f'[[instances]]\nname = "only"\nsource = "{CHECKPOINT}"\n']))
    server = Server("--config", str(config))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as inner:
        yield Keyed(server, file, user, admin, inner)
    server.close()


def test_a_key_is_needed_over_both_transports(keyed: Keyed, sample: bytes) -> None:
    assert keyed.captions(sample, keyed.user) == 200
    assert keyed.reads(sample, keyed.user) is grpc.StatusCode.OK
    for wrong in ("", "pali_another", keyed.user[:-1], keyed.user.lower()):
        assert keyed.captions(sample, wrong) == 401
        assert keyed.reads(sample, wrong) is grpc.StatusCode.UNAUTHENTICATED


def test_the_log_names_the_caller_and_never_the_key(keyed: Keyed, sample: bytes) -> None:
    keyed.captions(sample, keyed.user, x_request_id="whose-is-it")
    keyed.server.wait_for("whose-is-it")
    (told,) = [json.loads(line) for line in keyed.server.log if "whose-is-it" in line]
    assert (told["code"], told["caller"]) == ("ok", "team-a")
    # Those who are refused have a line a second, not one each.
    keyed.captions(sample, "pali_wrong")
    assert any("turned away" in line and json.loads(line)["code"] == "unauthenticated" for line in keyed.server.log)
    assert "pali_" not in "\n".join(keyed.server.log)


REQUEST_LINES = [
    "POST //v1/caption", "POST /v1%2fcaption", "POST /V1/caption", "POST /v1/caption/", "POST /livez/../v1/caption", "GET //v1/models",
    "POST http://127.0.0.1/v1/caption", "GET http://127.0.0.1/livez", "GET http://evil.example/v1/models", "GET /v1/models?/livez",
    "GET /v1/models#/livez", "OPTIONS *", "GET /metrics/../v1/models", "GET /%6divez", "ODD /v1/caption",
]  # fmt: skip


@pytest.mark.parametrize("line", REQUEST_LINES)
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example", "127.0.0.1/livez?", "evil.example/livez#", ""])
def test_threat_53_no_request_line_and_no_host_gets_around_the_key(keyed: Keyed, line: str, host: str) -> None:
    url = httpx.URL(keyed.server.url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        status = int(connection.makefile("rb").readline().split()[1])
    assert status == 401 if host == "127.0.0.1" else status in (400, 421), status


def test_one_quota_for_both_transports(keyed: Keyed, sample: bytes) -> None:
    key = make_key(keyed.file, "slow", "--requests-per-minute", "3")
    keyed.server.wait_for("keys.toml: read anew")
    assert keyed.captions(sample, key) == 200
    assert keyed.reads(sample, key) is grpc.StatusCode.OK
    batch = {"requests": [{"task": "caption"}] * 3}
    results = keyed.server.client.post("/v1/batch", json=batch, headers=bearer(key)).json()["results"]
    # The door's is the first one's; the pictures lack, and what is wrong is told first.
    assert [each["status"] for each in results] == [422] * 3
    assert keyed.reads(sample, key) is grpc.StatusCode.RESOURCE_EXHAUSTED
    refusal = keyed.server.client.post("/v1/caption", headers=bearer(key))
    assert (refusal.status_code, refusal.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refusal.headers["retry-after"]) <= 24
    assert keyed.captions(sample, keyed.user) == 200


def test_keys_change_without_a_restart_and_a_broken_file_changes_nothing(keyed: Keyed, sample: bytes) -> None:
    before = keyed.file.read_text()
    extra = make_key(keyed.file, "team-b")
    keyed.server.wait_for("keys.toml: read anew")
    assert keyed.captions(sample, extra) == 200
    lines = len((before + "\n[[keys]]").splitlines())
    keyed.file.write_text(f'{before}\n[[keys]]\nname = "team-c"\nrole = "emperor"\n')
    keyed.server.wait_for(rf"before stays in force: \S+keys.toml:{lines}: keys.\d.hash: .*64 hexadecimal digits are needed")
    assert keyed.captions(sample, extra) == 200
    keyed.file.write_text(before)
    keyed.server.wait_for("keys.toml: read anew")
    assert keyed.captions(sample, extra) == 401
    assert keyed.reads(sample, extra) is grpc.StatusCode.UNAUTHENTICATED
    assert keyed.captions(sample, keyed.user) == 200


def test_threat_56_metrics_and_documentation_are_on_their_own_port(keyed: Keyed, sample: bytes) -> None:
    outer = keyed.server.client
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert outer.get(path, headers=bearer(keyed.admin)).status_code == 404
        assert keyed.inner.get(path).status_code == 200
    for path in ("/livez", "/readyz", "/startupz"):
        assert (outer.get(path).status_code, keyed.inner.get(path).status_code) == (200, 200)
    body = {"image": ("x.png", sample)}
    assert keyed.inner.post("/v1/caption", files=body, headers=bearer(keyed.user)).status_code == 404


def test_threat_55_only_administrators_change_what_is_served(keyed: Keyed) -> None:
    outer = keyed.server.client
    for what, status in (("unload", 200), ("load", 200)):
        path = f"/v1/models/only/{what}"
        assert outer.post(path, headers=bearer(keyed.admin)).status_code == 404
        assert keyed.inner.post(path).status_code == 401
        assert keyed.inner.post(path, headers=bearer(keyed.user)).status_code == 403
        assert keyed.inner.post(path, headers=bearer(keyed.admin)).status_code == status
    for name in ("../only", "%2e%2e%2fetc", "/etc/passwd", "only%00"):
        assert keyed.inner.post(f"/v1/models/{name}/load", headers=bearer(keyed.admin)).status_code in (404, 405)


def test_threat_58_made_up_addresses_change_nothing(keyed: Keyed, sample: bytes) -> None:
    key = make_key(keyed.file, "spoofer", "--requests-per-minute", "2")
    keyed.server.wait_for("keys.toml: read anew")
    told = [keyed.captions(sample, key, x_forwarded_for=f"10.0.0.{number}", forwarded=f"for=10.0.0.{number}") for number in range(4)]
    assert told == [200, 200, 429, 429]
    assert "10.0.0." not in "\n".join(keyed.server.log)


def test_threat_54_nobody_listens_to_others_without_saying_who_may_call(tmp_path: Path) -> None:
    away = ("serve", "--host", "0.0.0.0", "--port", "0", "--grpc-port", "0")
    refused(start(*away), "0.0.0.0", "api_keys_file", "anonymous = true", "--host")
    refused(start(*away, environ={"PALISERVE_ANONYMOUS": "false"}), "anonymous is false", "api_keys_file")
    inner = {"PALISERVE_ADMIN_HOST": "0.0.0.0", "PALISERVE_ADMIN_PORT": str(free_port())}
    refused(start("serve", "--port", "0", "--grpc-port", "0", environ=inner), "0.0.0.0", "anonymous = true")
    keys = tmp_path / "keys.toml"
    keys.write_text('[[keys]]\nname = "a"\nhash = "default"\n')
    refused(start(*away, environ={"PALISERVE_API_KEYS_FILE": str(keys)}), f"{keys}:3", "paliserve key")
    refused(start(*away, environ={"PALISERVE_API_KEYS_FILE": "/no/such"}), "/no/such", "No such file")
