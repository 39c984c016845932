"""Make the README's tables of code bases and rules, from the rules and the golden answers.

python -m tests.rules_table            prints them
python -m tests.rules_table --write    puts them into the README
"""

import math
import re
import sys
from pathlib import Path

import numpy as np

from dark_jax import rules
from tests.golden import homes

README = Path(__file__).parents[1] / "README.md"
STARTS = ("| you come from | decode with |", "| rule | source |")

# The rules whose original was run. The answers of the others come from a float64 oracle, which was
# written from the source of the original.
with np.load(homes.FILE) as answers:
    LIVE = {name.partition("/")[0] for name in answers}


def evidence(rule: rules.Rule) -> str:
    if rule is rules.GUARDED:
        return "ours"
    return "live" if rule.name in LIVE else "transcribed"


def _clamp(rule: rules.Rule) -> str:
    if not rule.newton or not rule.logarithm:
        return ""
    unit = " x maximum" if rule.scale_free else ""
    above = "" if math.isinf(rule.ceiling) else f" to {rule.ceiling:g}"
    return f"{rule.floor:g}{above}{unit}"


def _blur(rule: rules.Rule) -> str:
    if rule.kernel is None:
        return "none"
    after = ", before the peak is sought" if rule.peak_of_blurred else ""
    return f"{rule.kernel_size}, {rule.padding.value}{after}"


def _step(rule: rules.Rule) -> str:
    if rule.centroid is not None:
        return f"to the centroid, up to {rule.centroid} px away"
    if rule.fixed_step == 0:
        return "none"
    if rule.fixed_step is not None:
        plus = f", plus {rule.shift:g} px" if rule.shift else ""
        return f"{rule.fixed_step:g} px{plus}"
    stride = f"Newton, stride {rule.stencil.reach} px"
    limit = f", at most {rule.largest_component} px" if rule.largest_component else ""
    raw = "" if rule.logarithm else ", no logarithm"
    return stride + raw + limit + (", guarded" if rule.refined_only else "")


def _border(rule: rules.Rule) -> str:
    if rule.fixed_step == 0:
        return ""
    if not any(rule.margin):
        return "edge repeated" if rule.kernel else rule.padding.value
    (low, high), across = rule.margin, rule.margin_across
    if across is None:
        moved = f", but for {rule.shift_at_edge:g} px" if rule.shift_at_edge else ""
        return f"first {low} and last {high} px of an axis left alone{moved}"
    return (
        f"each axis on its own: first {low} and last {high} px along it, first {across[0]} and "
        f"last {across[1]} px across it left alone"
    )


def _row(rule: rules.Rule) -> dict[str, str]:
    return {
        "rule": f"`{rule.name}`",
        "source": rule.source,
        "blur": _blur(rule),
        "rescale": rule.rescale.value,
        "clamp": _clamp(rule),
        "step": _step(rule),
        "border": _border(rule),
        "no peak": "argmax" if rule.missing is None else f"{rule.missing:g}",
        "evidence": evidence(rule),
    }


def _port(port: rules.Port) -> dict[str, str]:
    return {
        "you come from": port.source,
        "decode with": f"`{port.decode}`",
        "`convention`": f"`conventions.{port.convention}`" if port.convention else "",
        "flip `shift`": "" if port.shift is None else f"{port.shift}",
    }


def _table(rows: list[dict[str, str]]) -> str:
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables() -> list[str]:
    """Markdown tables: a line for each of the commonest code bases, and for each rule."""
    return [
        _table([_port(port) for port in rules.PORTING if port.common]),
        _table([_row(rule) for rule in (rules.GUARDED, *rules.PUBLISHED)]),
    ]


def written(text: str) -> str:
    """The text of the README with its tables made anew."""
    for start, table in zip(STARTS, tables(), strict=True):
        pattern = re.compile(rf"^{re.escape(start)}.*?(?=\n\n)", re.MULTILINE | re.DOTALL)
        text = pattern.sub(lambda _, table=table: table, text)
    return text


if __name__ == "__main__":
    print(*tables(), sep="\n\n")
    if sys.argv[1:] == ["--write"]:
        README.write_text(written(README.read_text()))
