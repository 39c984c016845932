"""The README's table of what each rule does, from the rules themselves.

python -m tests.rules_table
"""

import math

from dark_jax import rules
from dark_jax._ops.stencil import TAYLOR

# live: the home itself ran, and golden/homes.npz holds its answers; transcribed: a float64
# oracle written from its text.
EVIDENCE = {
    "GUARDED": "ours",
    "DARKPOSE": "transcribed",
    "MMPOSE_DARK": "live",
    "MMPOSE_UDP": "live",
    "MMPOSE_SIMCC": "live",
    "VITPOSE": "live",
    "HF_VITPOSE": "live",
    "SAPIENS2": "live",
    "HRNET": "transcribed",
}


def _clamp(rule: rules.Rule) -> str:
    if rule.fixed_step is not None:
        return ""
    unit = " x maximum" if rule.scale_free else ""
    above = "" if math.isinf(rule.ceiling) else f" to {rule.ceiling:g}"
    return f"{rule.floor:g}{above}{unit}"


def _row(rule: rules.Rule) -> dict[str, str]:
    stride = "2 px" if rule.stencil is TAYLOR else "1 px"
    step = f"Newton, stride {stride}" if rule.fixed_step is None else f"{rule.fixed_step:g} px"
    low, high = rule.margin
    return {
        "rule": f"`{rule.name}`",
        "home": rule.home,
        "blur": "none" if rule.kernel is None else f"{rule.kernel_size}, {rule.padding.value}",
        "rescale": rule.rescale.value,
        "clamp": _clamp(rule),
        "step": step + (", guarded" if rule.guarded else ""),
        "border": f"{low} and {high} px left alone" if low else "edge repeated",
        "no peak": "argmax" if rule.missing is None else f"{rule.missing:g}",
        "evidence": EVIDENCE[rule.name],
    }


def table() -> str:
    """One line a rule, in Markdown."""
    rows = [_row(rule) for rule in (rules.GUARDED, *rules.PUBLISHED)]
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
