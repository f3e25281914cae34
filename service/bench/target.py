"""Whom the load is for: an address, how to speak there, and a first look at whether it answers."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.addresses import PORTS, bearer, split_url
from service.bench.http_connection import HttpServer
from service.bench.http_framing import request
from service.bench.load_generator import Server
from service.bench.questions import FORM, Question
from service.errors import OperatorError


@dataclass(frozen=True, slots=True)
class Target:
    """``write`` makes a request of a question and the bytes of its picture."""

    address: str
    server: Server[Any]
    write: Callable[[Question, bytes], Any]


def over_rest(url: str, key: str | None, ca: Path | None) -> Target:
    """A URL, which may have a path that stands before all others. Errors: OperatorError."""
    parts = split_url(url, "--url")
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    tls = None
    if parts.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=ca)
        except (OSError, ValueError) as error:
            raise OperatorError(f"--ca {ca}: {_reason(error)}.") from None
    headers = {"Host": parts.netloc, "Content-Type": FORM, **({"Authorization": bearer(key)} if key else {})}
    base = parts.path.rstrip("/")

    def write(question: Question, image: bytes) -> bytes:
        return request("POST", f"{base}/v1/{question.task}", headers, question.form(image))

    return Target(url, HttpServer(port, host, tls), write)


def over_grpc(address: str, key: str | None, ca: Path | None) -> Target:
    """``HOST:PORT``, or ``https://HOST:PORT`` for TLS. Errors: OperatorError."""
    from grpc import ssl_channel_credentials  # noqa: PLC0415

    from service.bench.grpc_connection import GrpcServer, call  # noqa: PLC0415

    parts = split_url(address if "://" in address else f"http://{address}", "--grpc", "127.0.0.1:8001")
    if parts.port is None:
        raise OperatorError(f"--grpc {address}: HOST:PORT is needed, such as 127.0.0.1:8001.")
    tls = None
    if parts.scheme == "https":
        try:
            tls = ssl_channel_credentials(ca.read_bytes() if ca else None)
        except OSError as error:
            raise OperatorError(f"--ca {ca}: {_reason(error)}.") from None
    return Target(address, GrpcServer(parts.netloc, key, tls), call)


async def look(target: Target, asked: Sequence[Question], timeout: float) -> list[str]:  # noqa: ASYNC109
    """Ask each kind of question once, with its picture as it is; returns the instances that answered. Errors: OperatorError."""
    line = target.server.connect()
    models = []
    try:
        for question in {each.task: each for each in reversed(asked)}.values():
            async with asyncio.timeout(timeout):
                status, body = await line.ask(target.write(question, question.picture.file))
            status, fields = target.server.read(status, body)
            if status != 200:
                raise OperatorError(_refusal(target.address, question.task, status, fields))
            models.append(str(fields.get("model", "")))
    except TimeoutError:
        raise OperatorError(f"{target.address} did not answer within {timeout:g} s.") from None
    except ssl.SSLCertVerificationError as error:
        raise OperatorError(f"{target.address}: {error.verify_message}: --ca names a file of whom to trust.") from None
    except ssl.SSLError as error:
        raise OperatorError(f"{target.address} does not agree on TLS ({error.reason}): is it http?") from None
    except OSError as error:
        raise OperatorError(f"{target.address} cannot be reached: {_reason(error)}. paliserve serve starts a server.") from None
    except (EOFError, ValueError):
        raise OperatorError(f"{target.address} does not answer as PaliServe does: is the scheme right, and the port?") from None
    finally:
        line.close()
    return sorted(set(models))


def _refusal(address: str, task: str, status: int, fields: dict[str, Any]) -> str:
    said = str(fields.get("detail") or f"status {status}").rstrip(".")
    wrong = "; ".join(f"{each['field']}: {each['problem'].rstrip('.')}" for each in fields.get("errors") or ())
    advice = " --key or PALISERVE_KEY gives a key." if status in (401, 403) else ""
    return f"{address} does not answer {task}: {said}{f' ({wrong})' if wrong else ''}.{advice}"


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
