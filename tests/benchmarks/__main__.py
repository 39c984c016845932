"""Print figures, and put them in their page.

    python -m tests.benchmarks [part ...] [--write [PAGE]] [--json FILE]

What each part measures:

- sides, speed, accuracy, crowds: every figure of the README. These four run if no part is named.
  Peers that are not installed are marked as such. ``pip install --group bench`` and
  ``pip install --no-deps mmpose`` install them (torch is several GB on Linux).
- device: answers and times of the accelerator that JAX finds, in five minutes. It needs only
  JAX, NumPy and chex. The exit status is 1 if a row has a fault.
- kernels: what a GPU would run, counted without a GPU. Needs ``pip install --group kernels``.

The page of device and kernels is tests/benchmarks/README.md. The page of sides, speed and crowds
is the README. There is no page for accuracy.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dark_jax._io import atomic, plain_json
from tests.benchmarks import accuracy, crowds, device, kernels, page, sides, speed, timing
from tests.benchmarks.tables import table

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = Path(__file__).with_name("README.md")
CHART = ROOT / "notebooks" / "side_by_side.png"

Rows = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class Part:
    """One part of the benchmarks.

    Attributes:
        tables: functions that make the rows of a table, by its title.
        page: the page that ``--write`` puts the tables in, or None.
        stamp: makes the line above the tables.
        slot: makes the name of the slot in the page, if this is not the name of the part.
    """

    tables: dict[str, Rows]
    page: Path | None = README
    stamp: Callable[[], str] = timing.machine
    slot: Callable[[], str] | None = None


PARTS = {
    "sides": Part({"Side by side": sides.rows}),
    "speed": Part(
        {
            "Against one read of the maps": speed.rows,
            "Every decoder": speed.decoder_rows,
            "Other functions": speed.other_rows,
        }
    ),
    "accuracy": Part(accuracy.TABLES, page=None),
    "crowds": Part({"Crowds": crowds.rows}),
    "device": Part(
        {
            "Answers": device.agreement_rows,
            "Time": device.time_rows,
            "Memory": device.memory_rows,
        },
        page=PAGE,
        stamp=device.stamp,
        slot=device.slot,
    ),
    "kernels": Part({"Kernels": kernels.rows}, page=PAGE, stamp=kernels.stamp),
}
USUAL = ("sides", "speed", "accuracy", "crowds")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit status, which is 1 if a row has a fault."""
    options = _options(arguments)
    found: dict[str, Any] = {}
    faults = []
    for name in options.parts or USUAL:
        part = PARTS[name]
        try:
            stamp = f"{datetime.now(UTC):%Y-%m-%d}; {part.stamp()}"
        except (ImportError, RuntimeError) as error:  # something that the part needs is missing
            raise SystemExit(f"{name}: {error}") from error
        print(f"{stamp}\n")
        found[name] = {"stamp": stamp, "tables": {}}
        for title, rows in part.tables.items():
            found[name]["tables"][title] = made = rows()
            print(f"{title}\n\n{table(made)}\n", flush=True)
            faults += [row for row in made if row.get("fault")]
            _keep(options, name, found)  # the next table may fail or be cut off
        if options.write and name == "sides":
            sides.chart(stamp).savefig(CHART, dpi=110)
    for row in faults:
        print(*row.values(), sep=", ", file=sys.stderr)
    return 1 if faults else 0


def _keep(options: argparse.Namespace, name: str, found: dict[str, Any]) -> None:
    """Write the figures so far to the files that were asked for."""
    part, contents = PARTS[name], {}
    if options.json:
        contents[options.json] = plain_json.json_bytes(
            plain_json.as_json("figures", found, other=str)
        )
    where = part.page if options.write is True else options.write
    if where:
        slot = part.slot() if part.slot else name
        own = part.page or PAGE
        text = page.with_slot((where if where.exists() else own).read_text(), slot)
        tables = [table(rows) for rows in found[name]["tables"].values()]
        contents[where] = page.replaced(text, slot, found[name]["stamp"], tables).encode()
    atomic.write_together(contents)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=True,
        metavar="PAGE",
        help="put the tables in their page",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures as JSON too")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"part must be one of {', '.join(PARTS)}, got {', '.join(unknown)}")
    try:  # check now, and not after minutes of measuring
        if isinstance(options.write, Path):
            atomic.check_target(options.write, suffixes=(".md",), option="--write")
        if options.json:
            atomic.check_target(options.json, suffixes=(".json",), option="--json")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
