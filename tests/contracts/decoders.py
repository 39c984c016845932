"""A list of every decoder, over which the tests of this folder and the benchmarks run.

A new decoder, or a new variant of one, is one line in :data:`DECODERS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dark_jax
from dark_jax import rules
from tests.support import synthetic, tolerances

SIZE = (20, 18)
# Images and joints of most tests. Four devices divide the images, and all tests share one program.
BATCH = (8, 4)

COLLECTIVE = re.compile(r"\b(?:[\w-]*all-[\w-]+|collective-[\w-]+|reduce-scatter[\w-]*)\(")


@dataclass(frozen=True, eq=False)  # hashed by identity, as jit needs it
class Decoder:
    """A public decoder with its options: a function of maps ``[B, J, H, W]``.

    Attributes:
        function: takes maps and the options.
        options: its keyword arguments.
        variant: its program is like that of an earlier entry, so only tests of its values run.
        chooses: its program has a branch: the data decide which maps are read once more.
        scale_free: the coordinates do not change with the scale of the maps.
        mirrors: mirrored maps give mirrored coordinates.
    """

    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: bool = False
    chooses: bool = False
    scale_free: bool = True
    mirrors: bool = True

    def __call__(self, maps: Any) -> Any:
        return self.function(maps, **self.options)

    def coords(self, maps: Any) -> jax.Array:
        """``[B, J, ..., 2]``."""
        found = self(maps)
        return found.coords if isinstance(found, dark_jax.Keypoints) else found[0]


def bins(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maximum of every column and of every row. It is NaN on every device if one is NaN."""

    def largest(axis: int) -> jax.Array:
        return jnp.where(jnp.isnan(maps).any(axis), jnp.nan, maps.max(axis))

    return largest(-2), largest(-1)


def _simcc(maps: jax.Array, **options: Any) -> dark_jax.Keypoints:
    return dark_jax.decode_simcc(*bins(jnp.asarray(maps)), split_ratio=1.0, **options)


def _rule(rule: rules.Rule) -> Decoder:
    return Decoder(
        dark_jax.decode,
        {"rule": rule},
        variant=True,
        chooses=rule.rescale is not rules.Rescale.NO and not rule.of_whole_map,
        scale_free=False,
        # Mirroring swaps two corners of a stencil for the other two, but not the shift.
        mirrors=rule.stencil.corners == 4 and not rule.shift,
    )


PEAKS = {"max_peaks": 5, "threshold": 0.2, "min_distance": 2}

DECODERS = {
    "decode": Decoder(dark_jax.decode),
    "decode narrow": Decoder(dark_jax.decode, {"kernel_size": 3}, variant=True),
    "decode sigma": Decoder(dark_jax.decode, {"blur_sigma": 1.5}, variant=True),
    "decode covariance": Decoder(
        dark_jax.decode, {"kernel_size": 3, "covariance": True}, variant=True
    ),
    "decode rule": _rule(rules.VITPOSE),
    "fit": Decoder(dark_jax.decode_fit, {"sigma": 2.0}),
    "fit background": Decoder(
        dark_jax.decode_fit, {"sigma": 2.0, "background": None, "from_blurred": True}, variant=True
    ),
    # A low temperature: with a high one the rounding of the background's weights costs 4e-5 px.
    "soft argmax": Decoder(dark_jax.decode_soft_argmax, {"temperature": 0.03}, scale_free=False),
    "soft argmax window": Decoder(
        dark_jax.decode_soft_argmax, {"temperature": 0.1, "radius": 4}, scale_free=False
    ),
    "peaks": Decoder(dark_jax.decode_peaks, PEAKS, chooses=True, scale_free=False),
    "simcc": Decoder(_simcc, {"rule": rules.GUARDED}, variant=True),
    # The default kernel of the rule, 37 bins, is longer than these rows.
    "simcc rule": Decoder(
        _simcc,
        {"rule": rules.MMPOSE_SIMCC_DARK, "kernel_size": 11},
        chooses=True,
        scale_free=False,
    ),
    "get_final_preds": Decoder(dark_jax.get_final_preds, chooses=True),
}
# Published rules which do what no decoder above does. MMPOSE_MSRA takes a step of fixed length and
# has a guard for each axis, MEGVII starts at the peak of the blurred map, UDP_POSE needs the range
# of the blurred map, HF_VITPOSE mirrors a map at its edges, SAPIENS2 rescales only to a positive
# maximum, SLEAP_INTEGRAL goes to a centroid, and CAFFE2 takes no logarithm.
RULES = {
    f"rules.{rule.name}": _rule(rule)
    for rule in (
        *(rules.MMPOSE_MSRA, rules.MEGVII, rules.UDP_POSE, rules.HF_VITPOSE, rules.SAPIENS2),
        *(rules.SLEAP_INTEGRAL, rules.CAFFE2),
    )
}
# Functions of a batch of maps which do not return coordinates, or which make the maps.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "encode": lambda maps: dark_jax.encode(SIZE[0] * maps[..., 0, :2], size=SIZE),
    "get_max_preds": dark_jax.get_max_preds,
    "gaussian_blur": dark_jax.gaussian_blur,
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {**DECODERS, **OTHERS}
# One decoder of every kind of program, for tests of how functions are compiled.
KINDS = [name for name, decoder in DECODERS.items() if not decoder.variant]
CHOOSING = [name for name in KINDS if DECODERS[name].chooses]
SELF_CONTAINED = [name for name in (*KINDS, *OTHERS) if name not in CHOOSING]
# Every run of the tests compiles these programs. Most of the others belong to the slow tests.
FIRST = ("decode", "get_final_preds")


def maps(batch: int, joints: int) -> np.ndarray:
    """Bumps. In every image one map has zeros, at which the reference's clamp takes effect."""
    values, _ = synthetic.gaussians(0, batch * joints, SIZE, sigma=2.0, noise=0.02, margin=0.0)
    values = values.reshape(batch, joints, *SIZE)
    values[:, 0] = synthetic.cut(values[:, 0], threshold=0.8)
    return values


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.COMPILED * 20)


def assert_as_on_one_device(name: str, found: Any, expected: Any) -> None:
    """Compare integers, such as integer peaks, to the bit and other values to 1e-6 px."""
    # Soft-argmax also has the rounding of two sums over the whole map.
    rounding = 2 * tolerances.EPS32 * max(SIZE) if name == "soft argmax" else 0
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        whole = np.asarray(b == jnp.round(b))
        np.testing.assert_array_equal(np.asarray(a)[whole], np.asarray(b)[whole])
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.COMPILED + rounding)
