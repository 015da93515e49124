"""The sub-commands `fetch`, `verify` and `tools` of `python -m serving`, as the charts write them."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from serving.weights import tools as programs
from serving.weights import verifying
from serving.weights.errors import EXIT_WRONG_HASH, FULL, NoRoom, WeightsError, say_why
from serving.weights.stamps import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

ENDPOINT, TOKEN, TOKEN_SECRET = "HF_ENDPOINT", "HF_TOKEN", "BERTH_TOKEN_SECRET"
"""Of the environment: the hub or its mirror, the token, and the name of the Secret that holds it."""


def fetch(arguments: Sequence[str]) -> int:
    """Download a model's files from the hub, unless they are there."""
    given = parse_fetch(arguments)
    return _told(lambda: _fetch(given))


def parse_fetch(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of `fetch`."""
    parser = argparse.ArgumentParser("python -m serving fetch", description=fetch.__doc__)
    parser.add_argument("--repository", required=True, metavar="OWNER/NAME")
    parser.add_argument("--revision", metavar="COMMIT", help="a commit, tag or branch; by default main")
    parser.add_argument("--file", required=True, action="append", help="a path in the repository; repeatable")
    parser.add_argument(
        "--sha256", action="append", default=[], type=_digest, help="of the first --file, the second, …"
    )
    parser.add_argument("--mmproj", metavar="FILE", help="a path in the repository, of the projector")
    parser.add_argument("--mmproj-sha256", type=_digest)
    parser.add_argument("--size", required=True, type=int, metavar="BYTES", help="of all files together")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    if len(given.sha256) > len(given.file):
        parser.error("there are more --sha256 than --file")
    return _with_mmproj(parser, given)


def _fetch(given: argparse.Namespace) -> int:
    from serving.weights.fetching import Fetch, Order, Wanted
    from serving.weights.hub import ENDPOINT as OFFICIAL
    from serving.weights.hub import Hub

    digests = [*given.sha256, *[None] * (len(given.file) - len(given.sha256))]
    wanted = [Wanted(name, sha256) for name, sha256 in zip(given.file, digests, strict=True)]
    if given.mmproj is not None:
        wanted.append(Wanted(given.mmproj, given.mmproj_sha256))
    hub = Hub(
        given.repository,
        given.revision,
        endpoint=os.environ.get(ENDPOINT) or OFFICIAL,
        token=(os.environ.get(TOKEN) or "").strip() or None,
        secret=os.environ.get(TOKEN_SECRET) or None,
    )
    Fetch(hub, Order(tuple(wanted), given.to, given.size), _say).run()
    return 0


def verify(arguments: Sequence[str]) -> int:
    """Compare a model's files with their sha256 and stamp them, so that nobody else need do it."""
    given = parse_verify(arguments)

    def run() -> int:
        for path, sha256 in ((given.model, given.sha256), (given.mmproj, given.mmproj_sha256)):
            if path is None:
                continue
            checked = verifying.verify(path, sha256, _say)
            if checked.state is State.WRONG:
                say_why(checked.reason)
                return EXIT_WRONG_HASH
            print(f"{checked.state}: {checked.reason}")
        return 0

    return _told(run)


def parse_verify(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of `verify`."""
    parser = argparse.ArgumentParser("python -m serving verify", description=verify.__doc__)
    parser.add_argument("--model", required=True, type=Path, metavar="FILE")
    parser.add_argument("--sha256", type=_digest)
    parser.add_argument("--mmproj", type=Path, metavar="FILE", help="the projector")
    parser.add_argument("--mmproj-sha256", type=_digest)
    return _with_mmproj(parser, parser.parse_args(arguments))


def _with_mmproj(parser: argparse.ArgumentParser, given: argparse.Namespace) -> argparse.Namespace:
    if given.mmproj_sha256 is not None and given.mmproj is None:
        parser.error("--mmproj-sha256 needs --mmproj")
    return given


def tools(arguments: Sequence[str]) -> int:
    """Put the static copy program at a path, for a container of an image that has no programs."""
    parser = argparse.ArgumentParser("python -m serving tools", description=tools.__doc__)
    parser.add_argument("--to", required=True, type=Path, metavar="FILE")
    given = parser.parse_args(arguments)

    def run() -> int:
        programs.install(given.to)
        return 0

    return _told(run)


def _told(run: Callable[[], int]) -> int:
    """Run with every expected failure told in words and by an exit code."""
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        return run()
    except WeightsError as error:
        say_why(str(error))
        return error.exit_code
    except OSError as error:
        say_why(f"{error.filename or 'the volume'}: {error.strerror or error}")
        return NoRoom.exit_code if error.errno in FULL else 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End in an orderly way; the first process of a container would not end at all by default."""
    raise SystemExit(128 + number)


def _digest(text: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise argparse.ArgumentTypeError("a sha256 has 64 hexadecimal digits")
    return text.lower()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
