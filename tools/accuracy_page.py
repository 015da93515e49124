"""Put the accuracy table into docs/sizing.md: `make accuracy`.

It takes under a minute, so it is no part of `make docs`; the tests hold the model to the same measurements.
"""

from __future__ import annotations

import csv
import re
import sys

from tools import accuracy, measure_engine

PAGE = measure_engine.ROOT / "docs" / "sizing.md"
_PLACE = re.compile(r"(<!-- accuracy: begin -->\n).*(<!-- accuracy: end -->)", re.DOTALL)


def main() -> int:
    """Write the page anew and say whether it changed."""
    with accuracy.MEASURED.open(newline="") as stream:
        table = accuracy.accuracy(csv.DictReader(stream))
    before = PAGE.read_text()
    after, places = _PLACE.subn(lambda match: f"{match[1]}{table}\n{match[2]}", before)
    if places != 1:
        print(f"{PAGE} has no place for the table", file=sys.stderr)
        return 1
    PAGE.write_text(after)
    print(f"{PAGE.name}: {'unchanged' if after == before else 'written'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
