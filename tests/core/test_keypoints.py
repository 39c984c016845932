"""Keypoints can be printed, indexed, counted, joined and traced. They are never an array."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status

# ``[2, 3]``: each status occurs once.
STATUS = np.array([[0, 1, 2], [3, 4, 5]], np.int8)


def keypoints_of(status: np.ndarray, *, covariance: bool = False, dim: int = 2) -> Keypoints:
    """Keypoints with different numbers in every field."""
    scores = np.arange(status.size, dtype=np.float32).reshape(status.shape)
    coords = scores[..., None] + np.arange(dim, dtype=np.float32) / 10
    spread = jnp.asarray(coords[..., None] * np.eye(dim, dtype=np.float32))
    return Keypoints(
        coords=jnp.asarray(coords),
        scores=jnp.asarray(scores),
        status=jnp.asarray(status),
        covariance=spread if covariance else None,
    )


@pytest.fixture(params=[False, True], ids=["no covariance", "covariance"])
def keypoints(request: pytest.FixtureRequest) -> Keypoints:
    return keypoints_of(STATUS, covariance=request.param)


def fields(keypoints: Keypoints) -> dict[str, np.ndarray]:
    return {n: np.asarray(field) for n, field in vars(keypoints).items() if field is not None}


class TestIndex:
    @pytest.mark.parametrize(
        "index",
        [
            0,
            -1,
            np.int64(1),
            (1, 2),
            (slice(None), 2),
            (..., 2),
            (1, ...),
            ...,
            (),
            None,
            (slice(None), None, 1),
            slice(0, 1),
            (0, slice(None, None, -2)),
            [1, 0],
            ([0, 1, 1], [2, 0, -1]),
            np.array([True, False]),
            STATUS == 0,
            (slice(None), np.array([True, False, True])),
            (0, STATUS[0] < 2),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("where", [jnp.asarray, np.asarray])
    def test_it_is_that_of_every_field(
        self, keypoints: Keypoints, index: Any, where: Callable[[Any], Any]
    ) -> None:
        """NumPy indexes an array that has only the leading axes to tell the expected entries."""
        keypoints = jax.tree.map(where, keypoints)
        places = np.arange(STATUS.size).reshape(STATUS.shape)[index]
        found = keypoints[index]
        for name, field in fields(keypoints).items():
            own = field.shape[2:]
            expected = field.reshape(STATUS.size, *own)[places]
            np.testing.assert_array_equal(getattr(found, name), expected)
        assert (found.covariance is None) == (keypoints.covariance is None)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ((0, 0, 0), r"have the axes \(2, 3\), got an index for 3: .* keypoints.coords\[..., 0"),
            ((..., 0, 0, 0), "got an index for 3"),
            ((STATUS == 0, 0), "got an index for 3"),
            (2, "index 2 is out of bounds"),
            ((0, -4), "index -4 is out of bounds"),
            ([0, 5], r"index \[0 5\] is out of bounds"),
            (jnp.int32(7), "index 7 is out of bounds"),
            ((0, jnp.array([2, 3])), r"index \[2 3\] is out of bounds"),
            ((..., ...), "one ellipsis"),
        ],
        ids=str,
    )
    def test_never_the_axes_of_a_field(
        self, keypoints: Keypoints, index: Any, message: str
    ) -> None:
        with pytest.raises(IndexError, match=message):
            keypoints[index]
        with pytest.raises(IndexError, match=r"have the axes \(\), got an index for 1"):
            keypoints[0, 0][0]

    def test_traced(self, keypoints: Keypoints) -> None:
        """The index may be traced, or used inside jit, vmap and scan."""
        found = jax.jit(lambda keypoints, n: keypoints[:, n])(keypoints, 1)
        np.testing.assert_array_equal(found.scores, keypoints.scores[:, 1])
        found = jax.jit(lambda keypoints, n: keypoints[0][[n, 0]])(keypoints, 1)
        np.testing.assert_array_equal(found.scores, keypoints.scores[0, np.array([1, 0])])
        found = jax.vmap(lambda keypoints: keypoints[1])(keypoints)
        np.testing.assert_array_equal(found.coords, keypoints.coords[:, 1])
        _, found = jax.lax.scan(lambda carry, keypoints: (carry, keypoints[1]), 0, keypoints)
        np.testing.assert_array_equal(found.coords, keypoints.coords[:, 1])


def test_length(keypoints: Keypoints) -> None:
    assert (len(keypoints), len(keypoints[0])) == (2, 3)
    with pytest.raises(TypeError, match="no length"):
        len(keypoints[0, 0])
    assert [keypoints[n].scores.shape for n in range(len(keypoints))] == [(3,), (3,)]


def test_refined_and_found() -> None:
    keypoints = keypoints_of(STATUS)
    for each in (keypoints, jax.device_get(keypoints), jax.jit(lambda k: k)(keypoints)):
        np.testing.assert_array_equal(each.refined, STATUS == Status.REFINED)
        missing = (STATUS == Status.NO_PEAK) | (STATUS == Status.NOT_FINITE)
        np.testing.assert_array_equal(each.found, ~missing)
    assert jax.jit(lambda k: k.refined & k.found)(keypoints).dtype == bool


class TestRepr:
    def test_shape_and_counts(self) -> None:
        assert repr(keypoints_of(STATUS)) == (
            "Keypoints(coords float32[2,3,2], 1 REFINED, 1 NOT_FINITE, 1 NO_PEAK, 1 BORDER, "
            "1 NOT_CONCAVE, 1 STEP_TOO_LONG, no covariance)"
        )
        assert repr(keypoints_of(STATUS * 0, covariance=True, dim=3)) == (
            "Keypoints(coords float32[2,3,3], 6 REFINED, covariance)"
        )
        assert repr(jax.device_get(keypoints_of(STATUS[:0]))) == (
            "Keypoints(coords float32[0,3,2], no covariance)"
        )

    def test_never_reads_values_that_are_not_here(self) -> None:
        """Fields may be traced, deleted or abstract, or whatever JAX puts in their place."""
        shown: list[str] = []
        jax.jit(lambda k: shown.append(repr(k)))(keypoints_of(STATUS))
        jax.vmap(lambda k: shown.append(str(k)) or k)(keypoints_of(STATUS))
        shown.append(repr(jax.eval_shape(lambda: keypoints_of(STATUS))))
        assert [text.split(",")[-2:] for text in shown] == [
            ["2]", " no covariance)"],
            ["2]", " no covariance)"],
            ["2]", " no covariance)"],
        ]
        keypoints = keypoints_of(STATUS)
        keypoints.status.delete()
        assert repr(keypoints) == "Keypoints(coords float32[2,3,2], no covariance)"
        assert repr(jax.tree.map(lambda leaf: None, keypoints)) == (
            "Keypoints(coords NoneType, no covariance)"
        )
        assert "object" in repr(jax.tree.map(lambda leaf: object(), keypoints))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda keypoints: [*keypoints],
        lambda keypoints: (lambda coords, *others: coords)(*keypoints),
        lambda keypoints: dict(keypoints),
        lambda keypoints: bool(keypoints),
        lambda keypoints: keypoints or None,
        lambda keypoints: np.asarray(keypoints),
        lambda keypoints: np.asarray(keypoints, np.float32),
        lambda keypoints: np.array([keypoints, keypoints]),
        lambda keypoints: jnp.asarray(keypoints),
    ],
)
def test_they_are_not_an_array(misuse: Callable[[Any], Any], keypoints: Keypoints) -> None:
    with pytest.raises(TypeError, match=r"keypoints\.coords"):
        misuse(keypoints)
    with pytest.raises(TypeError, match=r"keypoints\.coords"):
        jax.jit(misuse)(keypoints)


def test_the_results_of_a_loop_are_joined(keypoints: Keypoints) -> None:
    """The line in the docstring of ``Keypoints`` joins them."""
    results = [keypoints, keypoints[:1]]
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)
    for name, field in fields(keypoints).items():
        np.testing.assert_array_equal(getattr(joined, name), np.concatenate([field, field[:1]]))
    assert (joined.covariance is None) == (keypoints.covariance is None)
    line = "jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)"
    assert line in (Keypoints.__doc__ or "")


def test_copies(keypoints: Keypoints) -> None:
    for copied in (copy.deepcopy(keypoints), pickle.loads(pickle.dumps(keypoints))):
        assert jax.tree.structure(copied) == jax.tree.structure(keypoints)
        for name, field in fields(keypoints).items():
            np.testing.assert_array_equal(getattr(copied, name), field)


def test_a_decoder_estimates_no_covariance_unasked() -> None:
    maps = dark_jax.encode(np.array([[8.0, 7.0]]), size=(20, 16))
    peaks = dark_jax.decode_peaks(maps, threshold=0.5, max_peaks=2, min_distance=2)
    soft = dark_jax.decode_soft_argmax(maps, temperature=0.1)
    for keypoints in (dark_jax.decode(maps), peaks, soft, dark_jax.decode_simcc(*[maps[:, 7]] * 2)):
        assert keypoints.covariance is None
    assert dark_jax.decode(maps, covariance=True).covariance is not None
