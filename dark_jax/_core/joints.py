"""Pairs of joints."""

from typing import Any

from dark_jax._core import checks


def joint_pairs(name: str, value: Any, joints: int) -> tuple[tuple[int, int], ...]:
    """``value`` as pairs of joints, each from 0 to ``joints - 1``."""
    expected = "pairs of joints"
    pairs = []
    for pair in checks.sequence(name, value, expected):
        if len(checks.sequence(name, pair, expected)) != 2:
            raise ValueError(f"{name} must be {expected}, got {pair!r} among them")
        first, second = (checks.integer(name, joint, expected) for joint in pair)
        pairs.append((first, second))
    if any(not 0 <= joint < joints for pair in pairs for joint in pair):
        raise ValueError(f"{name} must be joints from 0 to {joints - 1}, got {tuple(pairs)}")
    return tuple(pairs)


def mirrored_pairs(name: str, value: Any, joints: int) -> tuple[tuple[int, int], ...]:
    """``value`` as pairs of joints that a mirror exchanges; no joint may be in two pairs."""
    pairs = joint_pairs(name, value, joints)
    found = [joint for pair in pairs for joint in pair]
    if len(set(found)) != len(found):
        raise ValueError(f"{name} must name no joint twice, got {pairs}")
    return pairs
