"""The joints of published data sets, as rows of data.

A :class:`Skeleton` lists the joints that a data set annotates, in their order. It says which of
them a mirror exchanges and how they are scored. Joints are counted from 0.

- ``COCO``: 17 joints of a person, with the sigmas of COCO's score
- ``MPII``: 16 joints of a person; MPII's total score leaves out pelvis and thorax
- ``SKELETONS``: all of them, a tuple
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from dark_jax._core import checks
from dark_jax._core.joints import joint_pairs, mirrored_pairs

__all__ = ["COCO", "MPII", "SKELETONS", "Skeleton"]


@jax.tree_util.register_static
@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """The joints of a data set: names, mirror pairs, edges, and how they are scored.

    Attributes:
        name: the name of the skeleton.
        source: where it is published.
        joints: the names of the joints, in the order of the annotations.
        pairs: pairs of joints that a mirror exchanges, ``((left, right), ...)`` in either order,
            for :func:`dark_jax.flip_heatmaps`.
        edges: pairs of joints that a drawing connects.
        sigmas: how much annotators disagree at each joint, as a fraction of the square root of
            the person's area, for :func:`dark_jax.metrics.oks`. Empty if none are published.
        scored: a boolean for each joint: whether the total score counts it. The default is True
            for all.

    Notes:
        For JAX, a skeleton is a pytree without leaves, like a :class:`dark_jax.rules.Rule`. Lists
        become tuples.

    Example:
        >>> import dark_jax
        >>> parts = {"joints": ("wrist", "thumb", "index"), "edges": ((0, 1), (0, 2))}
        >>> hand = dark_jax.skeletons.Skeleton(name="HAND", source="ours", **parts)
        >>> [(hand.joints[a], hand.joints[b]) for a, b in hand.edges]
        [('wrist', 'thumb'), ('wrist', 'index')]
        >>> left, right = dark_jax.skeletons.COCO.pairs[0]
        >>> dark_jax.skeletons.COCO.joints[left], dark_jax.skeletons.COCO.joints[right]
        ('left eye', 'right eye')

    References:
        The ``source`` of each skeleton.
    """

    name: str
    source: str
    joints: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    scored: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not a skeleton, and make tuples of lists."""
        what = f"skeleton {self.name}:"
        joints = tuple(checks.sequence(f"{what} joints", self.joints, "names"))
        if not joints or any(not isinstance(name, str) for name in joints):
            raise TypeError(f"{what} joints must be names, at least one, got {joints!r}")
        if len(set(joints)) != len(joints):
            raise ValueError(f"{what} joints must have different names, got {joints!r}")
        sigmas = _one_a_joint(f"{what} sigmas", self.sigmas, "number", len(joints))
        scored = _one_a_joint(f"{what} scored", self.scored, "boolean", len(joints))
        kept = {
            "joints": joints,
            "pairs": mirrored_pairs(f"{what} pairs", self.pairs, len(joints)),
            "edges": _edges(f"{what} edges", self.edges, len(joints)),
            "sigmas": tuple(checks.positive(f"{what} sigmas", each) for each in sigmas),
            "scored": tuple(checks.flag(f"{what} scored", each) for each in scored)
            or (True,) * len(joints),
        }
        for field, value in kept.items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        """Return the name only; ``vars`` shows the fields."""
        return f"skeletons.{self.name}"


def _edges(name: str, value: Any, joints: int) -> tuple[tuple[int, int], ...]:
    """``value`` as pairs of two different joints, each pair once."""
    edges = joint_pairs(name, value, joints)
    different = {frozenset(edge) for edge in edges}
    if len(different) != len(edges) or any(len(edge) != 2 for edge in different):
        raise ValueError(f"{name} must each connect two joints, once, got {edges}")
    return edges


def _one_a_joint(name: str, value: Any, kind: str, joints: int) -> Sequence[Any]:
    """``value``, which must have one entry for each joint, or none."""
    expected = f"one {kind} for each of {joints} joints"
    values = checks.sequence(name, value, expected)
    if len(values) not in (0, joints):
        raise ValueError(f"{name} must be {expected}, got {len(values)}")
    return tuple(values)


COCO = Skeleton(
    name="COCO",
    source="https://cocodataset.org/#format-data, https://cocodataset.org/#keypoints-eval",
    joints=(
        "nose",
        *("left eye", "right eye", "left ear", "right ear"),
        *("left shoulder", "right shoulder", "left elbow", "right elbow"),
        *("left wrist", "right wrist", "left hip", "right hip"),
        *("left knee", "right knee", "left ankle", "right ankle"),
    ),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    edges=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12)),
        *((5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
        *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
        *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
    ),
)
MPII = Skeleton(
    name="MPII",
    source="MPII Human Pose: README of the annotations; HRNet: MPIIDataset.evaluate",
    joints=(
        *("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle"),
        *("pelvis", "thorax", "upper neck", "head top"),
        *("right wrist", "right elbow", "right shoulder"),
        *("left shoulder", "left elbow", "left wrist"),
    ),
    pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    edges=(
        *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5)),
        *((6, 7), (7, 8), (8, 9)),
        *((10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15)),
    ),
    scored=(*(True,) * 6, False, False, *(True,) * 8),
)

SKELETONS = (COCO, MPII)
