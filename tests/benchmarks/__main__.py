"""Print every figure of the README, or those of the parts that are named.

    python -m tests.benchmarks [--write] [sides] [speed] [accuracy] [crowds]

Peers that are not installed are named as such; ``pip install --group bench`` and
``pip install --no-deps mmpose`` bring them (torch is several GB on Linux).
"""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import accuracy, crowds, readme, sides, speed
from tests.benchmarks.tables import table
from tests.benchmarks.timing import machine

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CHART = ROOT / "notebooks" / "side_by_side.png"

Rows = Callable[[], list[dict[str, str]]]
PARTS: dict[str, dict[str, Rows]] = {
    "sides": {"Side by side": sides.rows},
    "speed": {
        "Against one read of the maps": speed.rows,
        "Every decoder": speed.decoder_rows,
        "Other functions": speed.other_rows,
    },
    "accuracy": accuracy.TABLES,
    "crowds": {"Crowds": crowds.rows},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all of them")
    parser.add_argument("--write", action="store_true", help="put the README's figures in place")
    arguments = parser.parse_args()
    parts = arguments.parts or list(PARTS)
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"part must be one of {', '.join(PARTS)}, got {', '.join(unknown)}")
    stamp = f"{datetime.now(UTC):%Y-%m-%d}; {machine()}"
    print(f"{stamp}\n")
    for part in parts:
        tables = []
        for title, rows in PARTS[part].items():
            tables.append(table(rows()))
            print(f"{title}\n\n{tables[-1]}\n", flush=True)
        if arguments.write:
            README.write_text(readme.replaced(README.read_text(), part, stamp, tables))
    if arguments.write and "sides" in parts:
        sides.chart(stamp).savefig(CHART, dpi=110)


if __name__ == "__main__":
    main()
