"""One result whichever way a function is run: eager, jitted, mapped, sharded, exported."""

import re
import sys
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dark_jax
from tests import synthetic, tolerances

SIZE = (20, 18)

COLLECTIVE = re.compile(r"\b(?:[\w-]*all-[\w-]+|collective-[\w-]+|reduce-scatter[\w-]*)\(")


def maps(batch: int, joints: int) -> np.ndarray:
    """Bumps, and in every image one map whose zeros the reference's clamp bites on."""
    values, _ = synthetic.gaussians(0, batch * joints, SIZE, sigma=2.0, noise=0.02, margin=0.0)
    values = values.reshape(batch, joints, *SIZE)
    values[:, 0] = synthetic.cut(values[:, 0], threshold=0.8)
    return values


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "decode": dark_jax.decode,
    "decode sigma": lambda m: dark_jax.decode(m, sigma=1.5),
    "decode rule": lambda m: dark_jax.decode(m, rule=dark_jax.rules.VITPOSE),
    "fit": lambda m: dark_jax.decode_fit(m, sigma=2.0),
    # Sharp: the last bits of a whole background's weights would be 4e-5 px.
    "soft argmax": lambda m: dark_jax.decode_soft_argmax(m, temperature=0.03),
    "soft argmax window": lambda m: dark_jax.decode_soft_argmax(m, temperature=0.1, radius=4),
    "peaks": lambda m: dark_jax.decode_peaks(m, max_peaks=5, threshold=0.2, min_distance=2),
    "simcc": lambda m: dark_jax.decode_simcc(m.max(-2), m.max(-1), rule=dark_jax.rules.GUARDED),
    "simcc rule": lambda m: dark_jax.decode_simcc(m.max(-2), m.max(-1)),
    "encode": lambda m: dark_jax.encode(SIZE[0] * m[..., 0, :2], size=SIZE),
    "get_max_preds": dark_jax.get_max_preds,
    "gaussian_blur": dark_jax.gaussian_blur,
    "get_final_preds": dark_jax.get_final_preds,
}


# Those that every test is run with; the others are among the slow ones where compiling is long.
FIRST = ("decode", "fit", "get_final_preds")


def each(*names: str) -> list[Any]:
    return [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in names]


EACH = each(*FUNCTIONS)

# Those that choose from the data which maps to read again.
CHOOSING = ("get_final_preds", "peaks", "simcc rule")
SELF_CONTAINED = [name for name in FUNCTIONS if name not in CHOOSING]


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.COMPILED * 20)


def assert_as_on_one_device(name: str, found: Any, expected: Any) -> None:
    """Integer peaks, and whatever else is whole, to the bit; the rest to a millionth of a pixel."""
    # But for the rounding of a sum over the whole map.
    rounding = tolerances.EPS32 * max(SIZE) if name == "soft argmax" else 0
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        whole = np.asarray(b == jnp.round(b))
        np.testing.assert_array_equal(np.asarray(a)[whole], np.asarray(b)[whole])
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.COMPILED + rounding)


@pytest.mark.parametrize("name", EACH)
def test_jit_vmap_map(name: str) -> None:
    function, values = FUNCTIONS[name], jnp.asarray(maps(4, 3))
    expected = function(values)
    assert_same(jax.jit(function)(values), expected)

    def one_image(image: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], function(image[None]))

    assert_same(jax.vmap(one_image)(values), expected)
    assert_same(jax.vmap(one_image, in_axes=1, out_axes=0)(values.swapaxes(0, 1)), expected)
    assert_same(jax.lax.map(one_image, values, batch_size=3), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_eager(name: str) -> None:
    """Operation by operation, each compiled on its own."""
    function, values = FUNCTIONS[name], jnp.asarray(maps(1, 1))
    expected = function(values)
    with jax.disable_jit():
        assert_same(function(values), expected)


def test_encode_vmap_and_jit() -> None:
    coords = synthetic.centres(0, 12, SIZE, margin=1.0).astype(np.float32).reshape(4, 3, 2)
    expected = dark_jax.encode(coords, size=SIZE)
    assert_same(jax.jit(lambda c: dark_jax.encode(c, size=SIZE))(coords), expected)
    assert_same(jax.vmap(jax.vmap(lambda c: dark_jax.encode(c, size=SIZE)))(coords), expected)


def test_one_compilation_a_shape() -> None:
    """New values, lists for tuples and NumPy for Python scalars do not compile again."""
    decode_core: Any = sys.modules["dark_jax.decode"].decode_along
    encode_core: Any = sys.modules["dark_jax.encode"]._encode
    chex.clear_trace_counter()
    inside = jax.jit(chex.assert_max_traces(lambda m: dark_jax.decode(m, kernel_size=5), n=1))
    for seed in range(3):
        inside(synthetic.noise(seed, 4, SIZE, zero_mean=False))

    values = synthetic.noise(0, 5, SIZE, zero_mean=False)
    coords = synthetic.centres(0, 5, SIZE, margin=1.0)
    before = decode_core._cache_size(), encode_core._cache_size()
    kernels: tuple[Any, ...] = (7, np.int64(7), np.int32(7))
    sides: tuple[Any, ...] = ([9, 8], (9, 8), np.array([9, 8]))
    for size in kernels:
        dark_jax.decode(values, kernel_size=size)
    for side in sides:
        dark_jax.encode(coords, size=side, sigma=3.0)
    assert (decode_core._cache_size(), encode_core._cache_size()) == (before[0] + 1, before[1] + 1)


class TestSharded:
    """On four virtual devices."""

    SPECS = (
        P("b", "j"),
        pytest.param(P("b"), marks=pytest.mark.slow),
        pytest.param(P(None, "j"), marks=pytest.mark.slow),
        pytest.param(P(("b", "j")), marks=pytest.mark.slow),
    )

    @pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
    def mesh(self, request: pytest.FixtureRequest) -> jax.sharding.Mesh:
        return jax.make_mesh((2, 2), ("b", "j"), axis_types=(request.param,) * 2)

    @pytest.mark.parametrize("spec", SPECS, ids=str)
    @pytest.mark.parametrize("name", each(*SELF_CONTAINED))
    def test_no_collective(self, mesh: jax.sharding.Mesh, spec: P, name: str) -> None:
        values = maps(8, 4)
        expected = FUNCTIONS[name](values)
        sharded = jax.device_put(values, NamedSharding(mesh, spec))
        with jax.set_mesh(mesh):
            compiled = jax.jit(FUNCTIONS[name]).lower(sharded).compile()
            found = compiled(sharded)
        alone = FUNCTIONS[name](sharded)  # the mesh known from the array alone
        assert_as_on_one_device(name, alone, expected)
        text = compiled.as_text()
        assert text is not None
        assert not COLLECTIVE.findall(text)
        for leaf in jax.tree.leaves(found):
            assert len(leaf.sharding.device_set) == 4
            assert not leaf.sharding.is_fully_replicated
        assert_as_on_one_device(name, found, expected)

    @pytest.mark.parametrize("spec", SPECS, ids=str)
    @pytest.mark.parametrize("name", EACH)
    def test_shard_map(self, mesh: jax.sharding.Mesh, spec: P, name: str) -> None:
        """Everything runs inside ``shard_map``, the reference's batch-wide choice included."""
        values = maps(8, 4)
        expected = FUNCTIONS[name](values)
        sharded = jax.device_put(values, NamedSharding(mesh, spec))
        function = jax.jit(jax.shard_map(FUNCTIONS[name], mesh=mesh, in_specs=spec, out_specs=spec))
        compiled = function.lower(sharded).compile()
        text = compiled.as_text()
        assert text is not None
        assert not COLLECTIVE.findall(text)
        assert_as_on_one_device(name, compiled(sharded), expected)

    @pytest.mark.parametrize("name", each(*CHOOSING))
    def test_choosing_on_an_explicit_mesh(self, name: str) -> None:
        """Documented to be refused outside ``shard_map``."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Explicit,))
        sharded = jax.device_put(maps(8, 4), NamedSharding(mesh, P("b")))
        with jax.set_mesh(mesh), pytest.raises(ValueError, match="should be replicated"):
            FUNCTIONS[name](sharded)

    @pytest.mark.parametrize("name", each(*CHOOSING))
    def test_choosing_on_a_sharded_batch(self, name: str) -> None:
        """Documented to cost collectives; right all the same."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
        values = maps(8, 4)
        sharded = jax.device_put(values, NamedSharding(mesh, P("b")))
        assert_as_on_one_device(name, jax.jit(FUNCTIONS[name])(sharded), FUNCTIONS[name](values))


@pytest.mark.parametrize("name", EACH)
def test_lowers_for_every_platform(name: str) -> None:
    """Lowered for CUDA and TPU as well, run on the CPU."""
    values = maps(2, 3)

    def flat(m: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(FUNCTIONS[name](m))

    exported = jax.export.export(jax.jit(flat), platforms=("cpu", "cuda", "tpu"))(
        jax.ShapeDtypeStruct(values.shape, jnp.float32)
    )
    assert_same(exported.call(values), flat(jnp.asarray(values)))


def test_precision_is_stated_wherever_a_product_feeds_a_log() -> None:
    """TF32 or bfloat16 products, a GPU's and a TPU's default, would leave only noise."""
    text = str(jax.make_jaxpr(dark_jax.decode)(jnp.ones((1, 1, *SIZE))))
    products = re.findall(r"dot_general\[.*?\] (?=\w)", text, flags=re.DOTALL)
    logged = [product for product in products if "Precision.HIGHEST" in product]
    # The other one looks for NaN, which no precision hides.
    assert (len(logged), len(products)) == (2, 3)


@pytest.mark.parametrize("name", SELF_CONTAINED)
def test_nothing_loops_or_calls_out(name: str) -> None:
    """A loop over maps, a branch or a callback would be paid for on a GPU."""
    text = str(jax.make_jaxpr(FUNCTIONS[name])(jnp.ones((2, 3, *SIZE))))
    for primitive in ("while", "scan", "cond", "callback", "custom_call", "sort"):
        assert not re.search(rf"= {primitive}\b", text), primitive
