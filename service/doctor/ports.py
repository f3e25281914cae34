"""Where the server is to listen: whether it can, and who is there already."""

import re
from collections.abc import Iterator
from pathlib import Path

from service.doctor.findings import Finding, fine, problem, warning
from service.listening import ServingError, bind
from service.settings import Settings

PROCESSES = Path("/proc")
LISTENING = "0A"
LONGEST_COMMAND = 80
SERVER = re.compile(r"(paliserve|service\.main) serve\b")
"""In the command of one of ours, which runs as it should."""


def ports(settings: Settings) -> Iterator[Finding]:
    """Each port that is set, on its host."""
    wanted = [("HTTP", settings.host, settings.port, "--port")]
    if settings.grpc_port:
        wanted.append(("gRPC", settings.host, settings.grpc_port, "--grpc-port"))
    if settings.admin_port:
        wanted.append(("administrators", settings.admin_host or settings.host, settings.admin_port, "admin_port"))
    held: dict[int, str] = {}
    free = []
    for name, host, port, flag in wanted:
        if port and port in held:
            yield problem(f"{name} and {held[port]} have the same port, {port}.", f"Give one of them another with {flag}.")
            continue
        held[port] = name
        try:
            bind(host, port, flag).close()
        except ServingError as error:
            who = owner(port)
            said = f"{name} {str(error).partition('. Give')[0]}.{f' It is taken by {who}.' if who else ''}"
            if SERVER.search(who):
                yield warning(said, f"Nothing, if that is the server that you ask about; a second one needs another port: {flag}.")
            else:
                yield problem(said, f"End what has it, or give another one with {flag}.")
        else:
            free.append(f"{name} on {host}:{port or 'any port'}")
    if free:
        yield fine(f"Free: {', '.join(free)}.")


def owner(port: int) -> str:
    """Who listens on a port of this machine, as far as this process may know it; empty where it may not."""
    sockets = {f"socket:[{number}]" for table in ("tcp", "tcp6") for number in _listening(PROCESSES / "net" / table, port)}
    for process in sorted(PROCESSES.glob("[0-9]*"), key=lambda each: int(each.name)) if sockets else []:
        try:
            found = any(str(each.readlink()) in sockets for each in (process / "fd").iterdir())
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if found:
            return f"process {process.name} ({_short(command)})"
    return "a process of another user" if sockets else ""


def _short(command: str) -> str:
    """Without the folders of a Python and its script, behind which there would be no room for what it does."""
    return re.sub(r"(?<!\S)/\S*/(?=\S)", "", command)[:LONGEST_COMMAND]


def _listening(table: Path, port: int) -> Iterator[str]:
    """Numbers of sockets."""
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        # Number, own address, other address, state; the ninth is the socket's.
        parts = line.split()
        if parts[3] == LISTENING and int(parts[1].rpartition(":")[2], 16) == port:
            yield parts[9]
