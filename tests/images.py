"""Images built and run for real, for the tests that ask for it: no registry is needed, and minutes are.

buildah builds in a chroot on a base that debootstrap makes (or that $BERTH_IMAGE_BASE names), and podman and
runc run the image as a restricted pod runs it. Only where BERTH_IMAGES is set, and root; with
BERTH_IMAGES=required whatever is missing is a failure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
BASE = "localhost/berth-test-base:12"
RESTRICTED = (
    "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges",
    "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "host",
)  # fmt: skip
PODMAN = ("podman", "--runtime", "runc")


def run(*command: str | Path, seconds: float = 1200) -> str:
    """Run a command to its end and return what it wrote; a failure ends the test with its last words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done.stdout


def absent(what: str, reason: str) -> NoReturn:
    """Say loudly that an image was not tested; with BERTH_IMAGES=required that is a failure."""
    text = f"NOT TESTED, the {what} image: {reason}"
    if os.environ.get("BERTH_IMAGES") == "required":
        pytest.fail(text)
    pytest.skip(text)


def base(what: str) -> str:
    """Return an image to build on: Debian without anything, by this machine's package mirror."""
    if not os.environ.get("BERTH_IMAGES"):
        absent(what, "building it takes minutes; BERTH_IMAGES=1 asks for it")
    named = os.environ.get("BERTH_IMAGE_BASE")
    needed = ["buildah", "podman", "runc", *([] if named else ["debootstrap", "tar"])]
    missing = [program for program in needed if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        absent(what, f"{', '.join(missing)} not found" if missing else "it needs root")
    if named:
        return named
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        folder = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"berth-base-{os.getpid()}"
        try:
            run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder)
            archive = folder.with_suffix(".tar")
            run("tar", "-C", folder, "-cf", archive, ".")
            run("podman", "import", archive, BASE)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".tar").unlink(missing_ok=True)
    return BASE


def build(application: str, image: str, *options: str) -> None:
    """Build an application's Dockerfile; buildah keeps the layers for the next time."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
        settings.flush()
        run(
            "buildah", "bud", "--isolation", "chroot", "--network", "host", "--layers",
            # this machine's certificate authorities, for a mirror of its own
            "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--volume", f"{settings.name}:/etc/pip.conf:ro",
            *options, "--file", ROOT / application / "Dockerfile", "--tag", image, ROOT,
        )  # fmt: skip


def inside(image: str, script: str, *options: str) -> str:
    """Run a shell script in a restricted container of the image and return what it wrote."""
    return run(*PODMAN, "run", "--rm", *RESTRICTED, *options, "--entrypoint", "/bin/sh", image, "-c", script)


def weaknesses(image: str) -> list[str]:
    """Return what a hardened image lacks: another user than ours, tools that build, files to write to."""
    return inside(
        image,
        "test $(id -u):$(id -g) = 10001:10001 || id;"
        "for one in cc gcc g++ c++ ld strip gdb make pip pip3 curl node; do command -v $one; done;"
        "for one in /opt/berth/x /usr/x; do touch $one 2>/dev/null && echo $one is writable; done;"
        "find /opt/berth ! -user root",
    ).splitlines()


def size(image: str) -> int:
    """Return an image's size in bytes."""
    return int(run("podman", "image", "inspect", "--format", "{{.Size}}", image).strip())


@contextlib.contextmanager
def running(
    image: str, *arguments: str, mounts: Sequence[str] = (), up: Callable[[], bool], seconds: float = 30
) -> Iterator[str]:
    """Run an image as a restricted pod would, from when it is up until the context ends; yield its name."""
    volumes = [part for mount in mounts for part in ("--volume", mount)]
    name = run(*PODMAN, "run", "--detach", *RESTRICTED, *volumes, image, *arguments).strip()
    try:
        deadline = time.monotonic() + seconds
        while not up():
            if time.monotonic() > deadline:
                told = subprocess.run(["podman", "logs", name], capture_output=True, text=True, check=False)
                pytest.fail(f"it is not up within {seconds:.0f} s:\n{told.stdout}{told.stderr}")
            time.sleep(0.1)
        yield name
    finally:
        remove = ["podman", "rm", "--force", "--time", "5", name]
        subprocess.run(remove, check=False, capture_output=True)


def page(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a plain page of a container; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def end(container: str) -> tuple[float, int]:
    """Tell a container to end; return the seconds that it took and its exit code."""
    began = time.monotonic()
    run("podman", "stop", "--time", "60", container)
    seconds = time.monotonic() - began
    return seconds, int(run("podman", "inspect", "--format", "{{.State.ExitCode}}", container))
