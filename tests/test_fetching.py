"""Images by URL, from a real server on this machine; and the addresses that nobody may be sent to."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ImageTooLarge, ImageUrlFailed, ImageUrlForbidden, PaliServeError
from service.fetching import CheckedNetwork, FetchLimits, ImageFetcher, is_allowed

IMAGE = b"\x89PNG and the rest"

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
PRIVATE = ["127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1"]
PRIVATE += ["::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
NEVER = ["0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1", "100.64.0.1"]
NEVER += ["::", "fe80::1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254"]
# Carrier-grade NAT in each of its spellings; a cloud's own addresses; what is deprecated, or for documents.
NEVER += ["100.127.255.254", "100.100.100.200", "::ffff:100.64.0.1", "64:ff9b::6440:1", "2002:6440:1::", "64:ff9b:1::7f00:1"]
NEVER += ["168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "192.88.99.1", "fec0::1", "3fff::1", "2001:0:7f00:1::"]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ip_address(address), private=False)
    assert is_allowed(ip_address(address), private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_threat_13_private_addresses_only_where_the_operator_says_so(address: str) -> None:
    assert not is_allowed(ip_address(address), private=False)
    assert is_allowed(ip_address(address), private=True)


@pytest.mark.parametrize("address", NEVER)
def test_threat_13_some_addresses_are_never_allowed(address: str) -> None:
    assert not is_allowed(ip_address(address), private=False)
    assert not is_allowed(ip_address(address), private=True)


# --- a server of our own ---


@dataclass
class Site:
    """A server on this machine that sends prepared bytes. ``asked`` are the request lines it has seen."""

    answers: dict[str, bytes]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    endless: str = "/endless"
    silent: str = "/silent"
    chunk: bytes = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    pause: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.asked.append(path)
            if path == self.silent:
                await reader.read()
            writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
            while path == self.endless:
                writer.write(self.chunk)
                await writer.drain()
                await asyncio.sleep(self.pause)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def answer(body: bytes = IMAGE, status: str = "200 OK", **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in ({"content_length": str(len(body))} | headers).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str) -> bytes:
    return answer(b"", "302 Found", location=location)


def at(site: Site, work: Callable[[ImageFetcher, str], Awaitable[bytes]], **limits: object) -> bytes:
    """``work`` with a fetcher that may reach the site, which runs meanwhile; the second argument is the site's URL."""

    async def run() -> bytes:
        server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
        site.port = server.sockets[0].getsockname()[1]
        given: dict[str, object] = {
            "hosts": (f"127.0.0.1:{site.port}",),
            "http": True,
            "private": True,
            "seconds": 5.0,
            "max_bytes": 100_000,
        }
        fetcher = ImageFetcher(FetchLimits(**given | limits))  # type: ignore[arg-type]
        try:
            return await work(fetcher, f"http://127.0.0.1:{site.port}")
        finally:
            await fetcher.close()
            server.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


def get(site: Site, path: str, **limits: object) -> bytes:
    return at(site, lambda fetcher, url: fetcher.fetch(url + path), **limits)


def test_an_image_is_fetched() -> None:
    site = Site({"/a.png?size=1": answer()})
    assert get(site, "/a.png?size=1#part") == IMAGE
    assert site.asked == ["/a.png?size=1"]


def test_a_redirect_is_followed_within_the_site() -> None:
    site = Site({"/old": redirect("/new"), "/new": answer()})
    assert get(site, "/old") == IMAGE


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://example.org/x.png", ImageUrlForbidden),
        ("http://127.0.0.1:1/x.png", ImageUrlForbidden),
        ("http://169.254.169.254/latest/meta-data", ImageUrlForbidden),
        ("file:///etc/passwd", ImageUrlForbidden),
        ("gopher://127.0.0.1/", ImageUrlForbidden),
        ("//user:secret@127.0.0.1/", ImageUrlForbidden),
        ("/round", ImageUrlFailed),
        ("http://[", ImageUrlFailed),
    ],
)
def test_threat_15_a_redirect_is_checked_as_the_first_url_is(location: str, error: type[PaliServeError]) -> None:
    site = Site({"/round": redirect(location)})
    with pytest.raises(error):
        get(site, "/round")
    assert len(site.asked) <= 4


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(status="404 Not Found"), ImageUrlFailed),
        (answer(status="500 Oh"), ImageUrlFailed),
        (answer(content_encoding="gzip"), ImageUrlFailed),
        (answer(content_length="100001"), ImageTooLarge),
        (answer(content_length="9" * 40), ImageUrlFailed),
        (answer(content_length="50"), ImageUrlFailed),
        (b"nonsense\r\n\r\n", ImageUrlFailed),
        (b"", ImageUrlFailed),
        (answer(b"", "302 Found"), ImageUrlFailed),
    ],
)
def test_threat_17_what_is_no_image_within_the_limits_is_refused(reply: bytes, error: type[PaliServeError]) -> None:
    with pytest.raises(error):
        get(Site({"/": reply}), "/")


def test_threat_17_an_endless_body_is_cut_off() -> None:
    site = Site({"/endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"})
    with pytest.raises(ImageTooLarge, match="more than 100000 bytes"):
        get(site, "/endless")


def test_threat_17_a_server_that_drips_is_given_up() -> None:
    """Each byte comes in time; all of them would not."""
    site = Site({"/endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}, chunk=b"1\r\nx\r\n", pause=0.01)
    with pytest.raises(ImageUrlFailed, match=r"within 0\.3 s"):
        get(site, "/endless", seconds=0.3)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "gzip, gzip", "x"])
def test_threat_17_a_compressed_body_is_refused_unread(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with pytest.raises(ImageUrlFailed, match="compressed bytes"):
        get(Site({"/": answer(bomb, content_encoding=encoding)}), "/")


def test_threat_17_an_endless_head_is_cut_off() -> None:
    site = Site({"/endless": b"HTTP/1.1 200 OK\r\n"}, chunk=b"X-Header: " + bytes(b"x" * 10_000) + b"\r\n")
    with pytest.raises(ImageUrlFailed):
        get(site, "/endless")


def test_threat_17_a_server_that_says_nothing_is_given_up() -> None:
    with pytest.raises(ImageUrlFailed, match=r"within 0\.2 s"):
        get(Site({}), "/silent", seconds=0.2)


@pytest.mark.parametrize(
    "host",
    """127.0.0.1 127.1 127.0.1 0 0.0.0.0 2130706433 017700000001 0177.0.0.1 0x7f.1 0x7f000001 127.0.0.1. 127.000.000.001 localhost
    localhost. LOCALHOST [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [64:ff9b::7f00:1]
    [64:ff9b:1::127.0.0.1]
    [2002:7f00:1::] [::1%25lo] [::1%lo] 127.0.0.1%00 127%2e1 ⑫7.0.0.1 ｌocalhost""".split(),
)
def test_threat_13_no_spelling_reaches_this_machine_unless_allowed(host: str) -> None:
    site = Site({"/": answer()})
    with pytest.raises((ImageUrlForbidden, ImageUrlFailed)):
        at(
            site,
            lambda fetcher, url: fetcher.fetch(f"http://{host}:{site.port}/"),
            hosts=tuple(f"*:{port}" for port in range(1, 65536)),
            private=False,
        )
    assert not site.asked


def test_threat_13_nothing_is_fetched_where_no_host_is_listed() -> None:
    with pytest.raises(ImageUrlForbidden, match="send the picture itself"):
        get(Site({"/": answer()}), "/", hosts=())


def test_plain_http_is_refused_unless_allowed() -> None:
    with pytest.raises(ImageUrlForbidden, match="must be https://"):
        get(Site({"/": answer()}), "/", http=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https://a b/",
        "https://bücher.example/",
        "ftp://a/",
        "https://u:p@a/",
        "https://a:99999/",
        "https://[::1/",
        "x" * 3000,
        "https://a/\n",
    ],
)
def test_threat_14_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises((ImageUrlFailed, ImageUrlForbidden)):
        asyncio.run(ImageFetcher(FetchLimits(hosts=("*",))).fetch(url))


@given(st.text(max_size=80), st.sampled_from(["", "https://", "http://", "https://allowed.example/"]))
def test_threat_14_any_text_gets_a_clear_refusal(text: str, head: str) -> None:
    with pytest.raises((ImageUrlFailed, ImageUrlForbidden)):
        asyncio.run(ImageFetcher(FetchLimits(hosts=("nowhere.invalid",))).fetch(head + text))


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("https://images.example.org/", True),
        ("https://IMAGES.example.org./", True),
        ("https://a.cdn.example/", True),
        ("https://cdn.example/", False),
        ("https://evilcdn.example/", False),
        ("https://images.example.org.evil.example/", False),
        ("https://images.example.org:8443/", False),
        ("https://files.example:8443/", True),
        ("https://files.example/", False),
    ],
)
def test_threat_14_the_list_of_hosts(url: str, listed: bool) -> None:
    network = RecordingNetwork()
    with pytest.raises(ImageUrlFailed if listed else ImageUrlForbidden):
        asyncio.run(recorded(network, FetchLimits(hosts=("Images.example.org", "*.cdn.example", "files.example:8443"))).fetch(url))
    assert bool(network.connections) == listed


# --- names and addresses ---


class RecordingNetwork(httpcore2.AsyncNetworkBackend):
    """Notes where it is asked to connect, and connects nowhere."""

    def __init__(self) -> None:
        self.connections: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the interface has it)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connections.append((host, port))
        raise httpcore2.ConnectError


def recorded(network: httpcore2.AsyncNetworkBackend, limits: FetchLimits) -> ImageFetcher:
    fetcher = ImageFetcher(limits)
    fetcher._pool = httpcore2.AsyncConnectionPool(network_backend=network)
    return fetcher


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Every name has these addresses; returns the names that are asked for."""
    asked: list[str] = []

    async def getaddrinfo(self: object, host: str, port: int, **others: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(None, None, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


def connect(network: RecordingNetwork, private: bool = False) -> None:
    asyncio.run(CheckedNetwork(network, private).connect_tcp("images.example.org", 443))


def test_threat_16_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, network = resolving(monkeypatch, "93.184.216.34", "2606:4700::1111"), RecordingNetwork()
    with pytest.raises(httpcore2.ConnectError):
        connect(network)
    assert network.connections == [("93.184.216.34", 443), ("2606:4700::1111", 443)]
    assert asked == ["images.example.org"]


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("93.184.216.34", "127.0.0.1"), ("fe80::1%eth0",), ("::ffff:169.254.169.254",)])
def test_threat_16_a_name_with_any_forbidden_address_is_refused(addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, *addresses)
    network = RecordingNetwork()
    with pytest.raises(ImageUrlForbidden):
        connect(network)
    assert not network.connections


def test_threat_16_a_name_that_answers_differently_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its owner answers when, a connection goes only where a check of this very answer let it."""
    answers = iter(["93.184.216.34", "127.0.0.1", "93.184.216.34", "169.254.169.254"])

    async def getaddrinfo(self: object, host: str, port: int, **others: object) -> list[tuple[object, ...]]:
        return [(None, None, 0, "", (next(answers), port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    network = RecordingNetwork()
    for error in (httpcore2.ConnectError, ImageUrlForbidden) * 2:
        with pytest.raises(error):
            connect(network)
    assert network.connections == [("93.184.216.34", 443)] * 2


TWICE_READ = r"""
https://images.example.org\@evil.example/ https://images.example.org@evil.example/ https://evil.example\@images.example.org/
https://evil.example#@images.example.org/ https://evil.example?@images.example.org/ https://evil.example/@images.example.org/
https://evil.example%2f@images.example.org/ https://images.example.org%2eevil.example/ https://images.example.org%00.evil.example/
https://images.example.org:443@evil.example/ https://images.example.org:80:443/ https://images.example.org:443:evil/
https:images.example.org/ https:/images.example.org/
https:///images.example.org/ https:////images.example.org/ https:\\images.example.org/ //images.example.org/
https://[images.example.org]/ https://[::1]images.example.org/ https://images.example.org[::1]/ https://images.example.org;evil.example/
https://images.example.org,evil.example/ https://images.example.org&evil.example/ https://images。example。org/ https://ⓘmages.example.org/
https://xn--mages-xva.example.org/ https://images.example.org../ https://.images.example.org/ https://images..example.org/ HTTPS://images.example.org/
https://images.example.org:0443/ https://images.example.org:+443/ https://images.example.org:٤٤٣/ https://images.example.org:/ https://images.example.org:0/
view-source:https://images.example.org/ jar:https://images.example.org!/ https://user@images.example.org/ https://:@images.example.org/
""".split()


@pytest.mark.parametrize(
    "url", [*TWICE_READ, "https://images.exam\tple.org/", "https://evil.example\r\n.images.example.org/", " https://evil.example"]
)
def test_threat_14_what_readers_of_urls_disagree_about_never_leads_elsewhere(url: str) -> None:
    network = RecordingNetwork()
    with pytest.raises((ImageUrlFailed, ImageUrlForbidden)):
        asyncio.run(recorded(network, FetchLimits(hosts=("images.example.org",))).fetch(url))
    assert set(network.connections) <= {("images.example.org", 443)}


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "gopher://a/", "data:image/png;base64,AA", "/etc/passwd", "C:\\x", "javascript:1"]
)
def test_threat_19_only_https_is_fetched(url: str) -> None:
    network = RecordingNetwork()
    with pytest.raises((ImageUrlFailed, ImageUrlForbidden)):
        asyncio.run(recorded(network, FetchLimits(hosts=("*",), http=True, private=True)).fetch(url))
    assert not network.connections


def refusal(url: str, hosts: tuple[str, ...]) -> tuple[type[PaliServeError], str]:
    async def fetch() -> None:
        fetcher = ImageFetcher(FetchLimits(hosts=hosts, http=True))
        try:
            await fetcher.fetch(url)
        finally:
            await fetcher.close()

    with pytest.raises(PaliServeError) as caught:
        asyncio.run(fetch())
    return type(caught.value), caught.value.message


def test_threat_20_what_is_inside_cannot_be_told_apart_from_outside() -> None:
    """Open and closed ports, names that are there and names that are not: the same words, and no connection to tell them apart by."""
    site = Site({"/": answer()})

    async def told(fetcher: ImageFetcher, url: str) -> bytes:
        anywhere = tuple(f"*:{port}" for port in (site.port, 1, 80))
        urls = [
            url,
            "http://127.0.0.1:1/",
            "http://localhost:1/",
            f"http://localhost:{site.port}/",
            "http://no-such-name.invalid/",
            "http://10.0.0.1/",
        ]
        words = {await asyncio.to_thread(refusal, each, anywhere) for each in urls}
        words.add(await asyncio.to_thread(refusal, "http://no-such-name.invalid/", ("images.example.org",)))
        assert len(words) == 1
        return b""

    at(site, told)
    assert not site.asked
