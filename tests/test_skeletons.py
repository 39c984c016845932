"""Skeletons: their consistency, their agreement with data sets, and skeletons of a user."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import metrics, skeletons
from dark_jax.skeletons import Skeleton

# As in COCO's person_keypoints annotations, which count joints from 1.
COCO_SKELETON = [
    *([16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9]),
    *([8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]),
]


def made(**fields: Any) -> Skeleton:
    given: dict[str, Any] = {"name": "MINE", "source": "ours", "joints": ("a", "b", "c")}
    return Skeleton(**given | fields)


def test_are_rows_named_as_the_module_names_them() -> None:
    found = {k: v for k, v in vars(skeletons).items() if isinstance(v, Skeleton)}
    assert {row.name: row for row in skeletons.SKELETONS} == found
    assert str(skeletons.COCO) == "skeletons.COCO"


def test_are_frozen_and_static() -> None:
    """A skeleton may be an argument under ``jit``, which compiles once for equal skeletons."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        skeletons.COCO.pairs = ()  # pyright: ignore[reportAttributeAccessIssue]
    assert jax.tree.leaves(skeletons.COCO) == []
    traced = []

    @jax.jit
    def mirrored(maps: jax.Array, skeleton: Skeleton) -> jax.Array:
        traced.append(skeleton)
        return dark_jax.flip_heatmaps(maps, skeleton.pairs, shift=0)

    maps = jnp.arange(3.0)[:, None, None] * jnp.ones((3, 4, 5))
    for pairs in (((0, 2),), [[0, 2]], [(np.int64(0), 2)]):
        found = mirrored(maps, made(pairs=pairs))
        np.testing.assert_array_equal(found[:, 0, 0], [2, 1, 0])
    assert len(traced) == 1


@pytest.mark.parametrize("skeleton", skeletons.SKELETONS, ids=str)
def test_the_rows_agree_with_themselves(skeleton: Skeleton) -> None:
    """Pairs mirror the names, edges reach every joint, and mirroring keeps edges and values."""
    count = {"COCO": 17, "MPII": 16}[skeleton.name]
    assert len(skeleton.joints) == count
    partner = np.arange(count)
    for a, b in skeleton.pairs:
        partner[[a, b]] = b, a
    swapped = {"left": "right", "right": "left"}
    mirrored = [" ".join(swapped.get(w) or w for w in name.split()) for name in skeleton.joints]
    assert mirrored == [skeleton.joints[joint] for joint in partner]
    assert {joint for edge in skeleton.edges for joint in edge} == set(range(count))
    undirected = {frozenset(edge) for edge in skeleton.edges}
    assert {frozenset(partner[list(edge)].tolist()) for edge in skeleton.edges} == undirected
    for values in (skeleton.sigmas, skeleton.scored):
        assert not values or tuple(np.array(values)[partner]) == values


def test_coco_is_as_its_annotations_have_it() -> None:
    assert [[a + 1, b + 1] for a, b in skeletons.COCO.edges] == COCO_SKELETON
    assert skeletons.COCO.joints[0::16] == ("nose", "right ankle")
    assert len(skeletons.COCO.sigmas) == 17
    assert skeletons.COCO.scored == (True,) * 17
    truth = np.zeros((17, 2))
    assert metrics.oks(truth, truth, area=1.0, sigmas=skeletons.COCO.sigmas) == 1


def test_mpii_scores_neither_pelvis_nor_thorax() -> None:
    left_out = {
        name
        for name, scored in zip(skeletons.MPII.joints, skeletons.MPII.scored, strict=True)
        if not scored
    }
    assert left_out == {"pelvis", "thorax"}
    assert skeletons.MPII.sigmas == ()


def test_lists_are_tuples() -> None:
    """Lists become tuples, so that any skeleton can be hashed."""
    fields: dict[str, Any] = {"pairs": [[0, 1]], "edges": [[0, 2]], "sigmas": [0.1, 0.2, 1]}
    listed = made(joints=["a", "b", "c"], scored=[True, np.False_, True], **fields)
    expected = made(
        pairs=((0, 1),), edges=((0, 2),), sigmas=(0.1, 0.2, 1.0), scored=(True, False, True)
    )
    assert listed == expected
    assert hash(listed) == hash(expected)
    assert made(sigmas=np.array([1.0, 2.0, 3.0])).sigmas == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"joints": ()}, TypeError, r"joints must be names, at least one, got \(\)"),
        ({"joints": "abc"}, TypeError, "joints must be names, got 'abc'"),
        ({"joints": ("a", 1)}, TypeError, "joints must be names"),
        ({"joints": ("a", "b", "a")}, ValueError, "joints must have different names"),
        ({"pairs": ((0, 3),)}, ValueError, r"pairs must be joints from 0 to 2, got \(\(0, 3\),\)"),
        ({"pairs": ((0, 1), (1, 2))}, ValueError, "pairs must name no joint twice"),
        ({"pairs": ((0, 1, 2),)}, ValueError, r"pairs must be pairs of joints, got \(0, 1, 2\)"),
        ({"pairs": ((0, 1.0),)}, TypeError, "pairs must be pairs of joints, got 1.0"),
        ({"edges": ((-1, 0),)}, ValueError, "edges must be joints from 0 to 2"),
        ({"edges": ((1, 1),)}, ValueError, "edges must each connect two joints, once"),
        ({"edges": ((0, 1), (1, 0))}, ValueError, "edges must each connect two joints, once"),
        (
            {"sigmas": (0.1, 0.2)},
            ValueError,
            "sigmas must be one number for each of 3 joints, got 2",
        ),
        ({"sigmas": (0.1, 0.2, 0.0)}, ValueError, "sigmas must be a positive, finite number"),
        ({"sigmas": 0.1}, TypeError, "sigmas must be one number for each of 3 joints, got 0.1"),
        ({"scored": (True,)}, ValueError, "scored must be one boolean for each of 3 joints, got 1"),
        ({"scored": (1, 1, 0)}, TypeError, "scored must be True or False, got 1"),
    ],
    ids=str,
)
def test_errors(fields: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"skeleton MINE: {match}"):
        made(**fields)
