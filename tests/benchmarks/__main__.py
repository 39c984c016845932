"""Print every figure of the README, or those of the parts that are named.

    python -m tests.benchmarks [speed] [accuracy] [crowds]

Peers that are not installed are named as such; ``pip install --group bench`` brings them.
"""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from tests.benchmarks import accuracy, crowds, speed
from tests.benchmarks.tables import table
from tests.benchmarks.timing import machine

Rows = Callable[[], list[dict[str, str]]]
PARTS: dict[str, dict[str, Rows]] = {
    "speed": {
        "Medians of interleaved runs in one process; in brackets the quartiles of the ratio": (
            speed.rows
        ),
        "Decoders": speed.decoder_rows,
        "Other functions": speed.other_rows,
    },
    "accuracy": accuracy.TABLES,
    "crowds": {"Crowds": crowds.rows},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"part must be one of {', '.join(PARTS)}, got {', '.join(unknown)}")
    print(f"{datetime.now(UTC):%Y-%m-%d}; {machine()}\n")
    for part in parts:
        for title, rows in PARTS[part].items():
            print(f"{title}\n\n{table(rows())}\n", flush=True)


if __name__ == "__main__":
    main()
