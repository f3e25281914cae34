"""Builds the cpu image without a registry, looks into it, starts it with a read-only root and asks it something: ``make image-check``.

Needs root, and Debian's buildah, debootstrap and iproute2. The base is Debian's bookworm instead of a registry's Python image. Where pip is
told of a folder with a CPU build of torch (find-links), that one is taken instead of PyTorch's index. All of it stays in build/image.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "image"
CONFINED = Path(__file__).with_name("confined.sh")
REQUESTS = Path(__file__).with_name("requests_inside.py")
BASE = "localhost/paliserve-base:bookworm"
IMAGE = "localhost/paliserve:cpu"
CERTIFICATES = "/etc/ssl/certs"
REVISION = "image-check"
"""Always the same, because buildah 1.28 does not see that a label it has built before would get another value."""

START = 120
"""Seconds within which the three embedded models must be warm, on two slow cores."""

UNWANTED = set("as c++ cargo cc curl cyclonedx-py g++ gcc git ld make pip pip3 rustc wget".split())
"""Programs that serve only who builds, or who broke in."""


def run(*command: str | Path, **options: Any) -> str:
    """Its output; a failure ends the check."""
    finished = subprocess.run(command, check=False, text=True, **({"stdout": subprocess.PIPE} | options))
    if finished.returncode:
        sys.exit(f"FAILED  {' '.join(map(str, command))}")
    return (finished.stdout or "").strip()


def buildah(*arguments: str | Path, **options: Any) -> str:
    """With a storage of its own. Where overlays cannot be mounted, STORAGE_DRIVER=vfs copies every layer."""
    driver = os.environ.get("STORAGE_DRIVER", "overlay")
    return run("buildah", "--root", WORK / "storage", "--runroot", WORK / "running", "--storage-driver", driver, *arguments, **options)


def expect(what: str, found: object, wanted: object) -> None:
    """Tell what was found; anything but what was wanted ends the check."""
    if found != wanted:
        sys.exit(f"FAILED  {what}: {found!r}, not {wanted!r}")
    print(f"ok      {what}: {found}", flush=True)


def normal(name: str) -> str:
    """A package's name as packages are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Tell how long it took."""
    start = time.monotonic()
    yield
    print(f"        {what}: {time.monotonic() - start:.0f} s", flush=True)


def make_base() -> None:
    """Debian with Python, once."""
    if buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        return
    rootfs = WORK / "rootfs"
    shutil.rmtree(rootfs, ignore_errors=True)
    run("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm", rootfs)
    for downloaded in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(rootfs / downloaded)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, rootfs, "/")
    buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(rootfs)


def torch_index() -> Path | None:
    """A package index with nothing but the CPU build of torch that pip on this machine would take from a folder, where it knows one."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True, check=False)
    wheels = [wheel for folder in asked.stdout.split() for wheel in Path(folder).glob("torch-*+cpu-*.whl")]
    if not wheels:
        return None
    folder = WORK / "torch-index" / "torch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for wheel in wheels:
        shutil.copy(wheel, folder)
    (folder / "index.html").write_text("".join(f'<a href="{wheel.name}">{wheel.name}</a>\n' for wheel in wheels))
    return folder.parent


def build() -> None:
    """The cpu target. This machine's certificates are lent to the build; of them the image gets nothing but an empty /etc/pip.conf."""
    configuration = WORK / "pip.conf"
    configuration.write_text(f"[global]\ncert = {CERTIFICATES}/ca-certificates.crt\n")
    options = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "-v", f"{configuration}:/etc/pip.conf:ro"]
    options += ["--build-arg", f"BASE={BASE}", "--build-arg", f"REVISION={REVISION}"]
    index = torch_index()
    if index:
        options += ["-v", f"{index}:/mnt:ro", "--build-arg", "TORCH_INDEX=file:///mnt"]
    # Docker's own format, because the OCI's has no HEALTHCHECK; the isolation that works where this process is itself in a container.
    options += ["--format", "docker", "--isolation", "chroot", "--layers", "--target", "cpu", "--tag", IMAGE]
    buildah("build", *options, "--file", ROOT / "docker" / "Dockerfile", ROOT, stdout=None)


def check_configuration() -> dict[str, Any]:
    """What the image says of itself."""
    told: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    expect("user", told["User"], "10001:10001")
    expect("entry point and command", [*told["Entrypoint"], *told["Cmd"]], ["paliserve", "serve"])
    expect("ports", sorted(told["ExposedPorts"]), ["8000/tcp", "8001/tcp"])
    expect("stop signal", told["StopSignal"], "SIGTERM")
    expect("health check", told["Healthcheck"]["Test"][:2], ["CMD", "python3"])
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in told["Labels"].items()}
    expect("revision label", labels["revision"], REVISION)
    expect("licence label", labels["licenses"], "Apache-2.0")
    return told


def check_contents(root: Path) -> None:
    """What is in the image, and what is not."""
    programs = {each.name for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/paliserve/bin") for each in (root / folder).glob("*")}
    expect("build tools", sorted(programs & UNWANTED), [])
    places = ("root/.cache", "opt/tools", "build", "mnt", "tmp", "usr/share/python-wheels")
    caches = [path for path in places if any((root / path).glob("*"))]
    expect("left by the build", caches, [])
    packages = next((root / "opt/paliserve/lib").glob("python3*/site-packages"))
    expect("pip", [each.name for each in packages.glob("pip*")], [])
    expect("packages of CUDA", [each.name for each in packages.glob("nvidia*")], [])
    ours = run("find", root / "opt", root / "usr", "!", "-type", "l", "(", "-uid", "10001", "-o", "-perm", "-0002", ")")
    expect("writable by the service in /opt and /usr", ours.split(), [])


def check_bill(root: Path, version: str) -> None:
    """The bill of materials names what is installed, at the versions that are tested."""
    bill = json.loads((root / "usr/share/sbom/paliserve.cdx.json").read_text())
    listed = {normal(each["name"]): each["version"] for each in [bill["metadata"]["component"], *bill["components"]]}
    print(f"        bill of materials: {bill['bomFormat']} {bill['specVersion']}, {len(listed)} components")
    expect("paliserve in the bill of materials", listed["paliserve"], version)
    lines = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pinned = {normal(name): exact for name, exact in lines}
    differing = {name: listed[name] for name in pinned if name in listed and listed[name].partition("+")[0] != pinned[name]}
    expect("torch in the bill of materials", listed["torch"].partition("+")[0], pinned["torch"])
    expect("versions that are not those of constraints.txt", differing, {})
    expect("packages that constraints.txt does not name", sorted(listed.keys() - pinned.keys() - {"paliserve"}), [])


class Container:
    """The image's command as its user, without capabilities, with a read-only root, in namespaces of its own: no network but loopback."""

    def __init__(self, root: Path, told: dict[str, Any]) -> None:
        uid, _, gid = told["User"].partition(":")
        identity = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        # The image's own variables, and who may call: only what is in this network, which has no other.
        variables = [*told["Env"], "PALISERVE_ANONYMOUS=true"]
        self._as_user = [*identity, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "env", "-i", *variables]
        namespaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        command = [*self._as_user, *told["Entrypoint"], *told["Cmd"]]
        self.process = subprocess.Popen([*namespaces, "sh", CONFINED, root, *command])

    def inside(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run beside the service, as the same user."""
        entering = ["nsenter", f"--target={self._leader()}", "--all", "--root", "--wd=/"]
        return subprocess.run([*entering, *self._as_user, *command], check=False, text=True, capture_output=True, **options)

    def stop(self) -> int:
        """As Docker and Kubernetes do; returns the exit status."""
        os.kill(self._leader(), signal.SIGTERM)
        return self.process.wait(timeout=60)

    def await_program(self) -> None:
        """Until then, process 1 is what prepares the container."""
        while not Path(f"/proc/{self._leader()}/cmdline").read_text().partition("\0")[0].endswith("/python"):
            if self.process.poll() is not None:
                sys.exit(f"FAILED  the container ended with {self.process.returncode}")
            time.sleep(0.05)

    def _leader(self) -> int:
        """What is process 1 in there. ``unshare`` has no other child."""
        number = self.process.pid
        while not (children := Path(f"/proc/{number}/task/{number}/children").read_text().split()):
            if self.process.poll() is not None:
                sys.exit(f"FAILED  the container ended with {self.process.returncode}")
            time.sleep(0.05)
        return int(children[0])


def check_running(root: Path, told: dict[str, Any]) -> None:
    """From the start to the end of a container."""
    container = Container(root, told)
    probe = told["Healthcheck"]["Test"][1:]
    try:
        with timed("until the health check was content"):
            deadline = time.monotonic() + START
            container.await_program()
            expect("health check, at the start", container.inside(*probe).returncode, 1)
            while (result := container.inside(*probe)).returncode:
                if container.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"FAILED  the service is not ready: {result.stderr}")
                time.sleep(0.2)
        told_inside = container.inside("python3", "-", input=REQUESTS.read_text())
        if told_inside.returncode:
            sys.exit(f"FAILED  {told_inside.stderr}")
        found = json.loads(told_inside.stdout)
        expect("caption over HTTP", found["caption"], "a green square, a purple star and a sign")
        expect("health over gRPC", found["health"], "SERVING")
        expect("uid and groups", [found["uid"], found["groups"]], [10001, []])
        expect("capabilities", found["capabilities"], ["0" * 16] * 3)
        expect("writing to a folder of its own", found["cache"], "EROFS")
        expect("writing to /tmp", found["tmp"], "written")
        with timed("until it had stopped"):
            expect("exit status after SIGTERM", container.stop(), 0)
    finally:
        container.process.kill()
        container.process.wait()


def main() -> None:
    """All of it, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", action="store_true", help="forget what earlier runs built")
    asked = parser.parse_args()
    missing = [program for program in ("buildah", "debootstrap", "ip") if not shutil.which(program)]
    if missing or os.geteuid():
        sys.exit(f"This needs root and {', '.join(missing) or 'nothing else'}: apt-get install buildah debootstrap iproute2")
    WORK.mkdir(parents=True, exist_ok=True)
    if asked.clean:
        buildah("umount", "--all")
        shutil.rmtree(WORK)
        WORK.mkdir()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with timed("base"):
        make_base()
    with timed("build"):
        build()
    told = check_configuration()
    container = buildah("from", IMAGE)
    try:
        root = Path(buildah("mount", container))
        check_contents(root)
        check_bill(root, version)
        check_running(root, told)
        print("        size:", run("du", "-sh", root).split()[0], "of which packages:", run("du", "-sh", root / "opt/paliserve").split()[0])
    finally:
        buildah("rm", container)


if __name__ == "__main__":
    main()
