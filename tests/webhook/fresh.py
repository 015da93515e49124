"""`python -m tests.webhook.fresh < review`: the processor's seconds of an answer, alone in its process."""

from __future__ import annotations

import sys
import time

from tests.webhook.asking import context
from webhook import admission, reviews, server


def main() -> None:
    """Start as the program does, answer, and print the seconds."""
    content = sys.stdin.buffer.read()
    within = context()
    server.prepare(within.catalog)
    began = time.thread_time()
    request = reviews.parse(content)
    admission.validate(request, within).to_bytes()
    admission.mutate(request, within).to_bytes()
    print(time.thread_time() - began)


if __name__ == "__main__":
    main()
