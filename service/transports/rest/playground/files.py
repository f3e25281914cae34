"""The playground's files: a fixed table, read once and served from memory."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

STATIC = Path(__file__).parent / "static"
SAMPLES = Path(__file__).parents[3] / "demo" / "samples"
"""Pictures to begin with. They are read as files, so that nothing of the demo is imported."""

SCRIPTS = tuple(
    "api camera chips clipboard drawing elements event_stream form history key labels main masks models palette pictures region requests "
    "results run_lengths samples sources stage storage tasks theme timings tokens".split()
)
PICTURES = ("scene.png", "shapes.png", "sign.png", "small.png")
PAGE = "index.html"

FILES: dict[str, tuple[Path, str]] = {
    "style.css": (STATIC, "text/css; charset=utf-8"),
    "icon.svg": (STATIC, "image/svg+xml"),
    **{f"{name}.js": (STATIC, "text/javascript; charset=utf-8") for name in SCRIPTS},
    **dict.fromkeys(PICTURES, (SAMPLES, "image/png")),
}
"""By name: the folder and the media type. No other name leads to a file."""

PATHS = frozenset({"/", *(f"/playground/{name}" for name in FILES)})
"""All that the playground answers itself."""

PARTS = PATHS - {"/"}
"""What the page loads by itself."""

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
    )
)  # fmt: skip
"""Nothing of others is loaded, nothing written into the page runs, and no text becomes markup: labels are a stranger's words."""

HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    # Kept by browsers, and asked about each time: names do not change with versions.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """What is answered, whole. ``etag`` as RFC 9110 writes it."""

    content: bytes
    headers: Mapping[str, str]
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "StaticFile":
        """With the headers of every file."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, HEADERS | {"content-type": media_type, "etag": etag}, etag)

    def answer(self, known: str) -> Response:
        """``known``: the request's If-None-Match. Ranges are not served."""
        # Proxies that compress make weak ones of them.
        if any(each.strip().removeprefix("W/") in (self.etag, "*") for each in known.split(",")):
            return Response(status_code=304, headers=dict(self.headers))
        return Response(self.content, headers=dict(self.headers))


def playground_routes(documented: bool, grpc_port: int) -> APIRouter:
    """The page at ``/`` and its files. ``documented``: whether there is a ``/docs``; ``grpc_port``: 0 where there is none."""
    router = APIRouter(include_in_schema=False)
    told = {"%docs%": "docs" if documented else "", "%grpc_port%": str(grpc_port)}
    page = (STATIC / PAGE).read_text(encoding="utf-8")
    for mark, value in told.items():
        page = page.replace(mark, value)
    files = {"/": StaticFile.of(page.encode(), "text/html; charset=utf-8")}
    for name, (folder, media_type) in FILES.items():
        files[f"/playground/{name}"] = StaticFile.of((folder / name).read_bytes(), media_type)
    for path, file in files.items():
        router.add_api_route(path, _answering(file), methods=["GET", "HEAD"])
    return router


def _answering(file: StaticFile) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return file.answer(request.headers.get("if-none-match", ""))

    return answer
