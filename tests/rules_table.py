"""Make the README's table of the rules from the rules and the golden answers.

python -m tests.rules_table            prints it
python -m tests.rules_table --write    puts it into the README
"""

import math
import re
import sys
from pathlib import Path

import numpy as np

from dark_jax import rules
from tests.golden import homes

README = Path(__file__).parents[1] / "README.md"
TABLE = re.compile(r"^\| rule \| source \|.*?(?=\n\n)", re.MULTILINE | re.DOTALL)

# The rules whose original was run. The answers of the others come from a float64 oracle, which was
# written from the source of the original.
with np.load(homes.FILE) as answers:
    LIVE = {name.partition("/")[0] for name in answers}


def evidence(rule: rules.Rule) -> str:
    if rule is rules.GUARDED:
        return "ours"
    return "live" if rule.name in LIVE else "transcribed"


def _clamp(rule: rules.Rule) -> str:
    if rule.fixed_step is not None:
        return ""
    unit = " x maximum" if rule.scale_free else ""
    above = "" if math.isinf(rule.ceiling) else f" to {rule.ceiling:g}"
    return f"{rule.floor:g}{above}{unit}"


def _row(rule: rules.Rule) -> dict[str, str]:
    stride = "2 px" if rule.stencil is rules.TAYLOR else "1 px"
    step = f"Newton, stride {stride}" if rule.fixed_step is None else f"{rule.fixed_step:g} px"
    low, high = rule.margin
    return {
        "rule": f"`{rule.name}`",
        "source": rule.source,
        "blur": "none" if rule.kernel is None else f"{rule.kernel_size}, {rule.padding.value}",
        "rescale": rule.rescale.value,
        "clamp": _clamp(rule),
        "step": step + (", guarded" if rule.refined_only else ""),
        "border": f"first {low} and last {high} px of an axis left alone"
        if low
        else "edge repeated",
        "no peak": "argmax" if rule.missing is None else f"{rule.missing:g}",
        "evidence": evidence(rule),
    }


def table() -> str:
    """A Markdown table with one line per rule."""
    rows = [_row(rule) for rule in (rules.GUARDED, *rules.PUBLISHED)]
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
    if sys.argv[1:] == ["--write"]:
        README.write_text(TABLE.sub(lambda _: table(), README.read_text()))
