"""One result whichever way a function is run: eager, jitted, mapped, sharded, exported."""

import re
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
from dark_jax._codecs import decode, encode
from tests.contracts.decoders import (
    BATCH,
    CHOOSING,
    COLLECTIVE,
    FIRST,
    FUNCTIONS,
    SELF_CONTAINED,
    SIZE,
    assert_as_on_one_device,
    assert_same,
    maps,
)
from tests.support import synthetic
from tests.support.cases import slow_but

# Which axes of a batch the two of a mesh share out.
SPECS = (P("b", "j"), P("b"), P(None, "j"), P(("b", "j")))


def shared_out(*names: str) -> list[Any]:
    """All by batch and by joints; some, of every kind of program, in every other way too."""
    every = [
        (name, spec)
        for name in names
        for spec in SPECS
        if name in (*FIRST, "fit", "soft argmax") or spec == SPECS[0]
    ]
    return slow_but([(name, SPECS[0]) for name in FIRST], every, unpack=True)


def of_one_image(name: str) -> Callable[[jax.Array], Any]:
    return lambda image: jax.tree.map(lambda leaf: leaf[0], FUNCTIONS[name](image[None]))


@pytest.mark.parametrize("name", slow_but(FIRST, FUNCTIONS))
def test_jit_and_vmap(name: str) -> None:
    values = jnp.asarray(maps(*BATCH))
    expected = FUNCTIONS[name](values)
    assert_same(jax.jit(FUNCTIONS[name])(values), expected)
    assert_same(jax.vmap(of_one_image(name))(values), expected)


@pytest.mark.parametrize("name", slow_but(("decode",), FUNCTIONS))
def test_vmap_along_another_axis_and_map(name: str) -> None:
    values, one = jnp.asarray(maps(*BATCH)), of_one_image(name)
    expected = FUNCTIONS[name](values)
    assert_same(jax.vmap(one, in_axes=1, out_axes=0)(values.swapaxes(0, 1)), expected)
    assert_same(jax.lax.map(one, values, batch_size=3), expected)


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
    decode_core: Any = decode.decode_along
    encode_core: Any = encode._encode
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

    @pytest.fixture
    def mesh(self, request: pytest.FixtureRequest) -> jax.sharding.Mesh:
        return jax.make_mesh((2, 2), ("b", "j"), axis_types=(request.param,) * 2)

    @pytest.mark.parametrize("mesh", [AxisType.Auto, AxisType.Explicit], indirect=True, ids=str)
    @pytest.mark.parametrize(("name", "spec"), shared_out(*SELF_CONTAINED), ids=str)
    def test_no_collective(self, mesh: jax.sharding.Mesh, name: str, spec: P) -> None:
        values = maps(*BATCH)
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

    @pytest.mark.parametrize(
        "mesh",
        slow_but([AxisType.Auto], [AxisType.Auto, AxisType.Explicit]),
        indirect=True,
        ids=str,
    )
    @pytest.mark.parametrize(("name", "spec"), shared_out(*FUNCTIONS), ids=str)
    def test_shard_map(self, mesh: jax.sharding.Mesh, name: str, spec: P) -> None:
        """Everything runs inside ``shard_map``, the reference's batch-wide choice included."""
        values = maps(*BATCH)
        expected = FUNCTIONS[name](values)
        sharded = jax.device_put(values, NamedSharding(mesh, spec))
        function = jax.jit(jax.shard_map(FUNCTIONS[name], mesh=mesh, in_specs=spec, out_specs=spec))
        compiled = function.lower(sharded).compile()
        text = compiled.as_text()
        assert text is not None
        assert not COLLECTIVE.findall(text)
        assert_as_on_one_device(name, compiled(sharded), expected)

    @pytest.mark.parametrize("name", slow_but(FIRST, CHOOSING))
    def test_choosing_on_an_explicit_mesh(self, name: str) -> None:
        """Documented to be refused outside ``shard_map``."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Explicit,))
        sharded = jax.device_put(maps(*BATCH), NamedSharding(mesh, P("b")))
        with jax.set_mesh(mesh), pytest.raises(ValueError, match="should be replicated"):
            FUNCTIONS[name](sharded)

    @pytest.mark.parametrize("name", slow_but(FIRST, CHOOSING))
    def test_choosing_on_a_sharded_batch(self, name: str) -> None:
        """Documented to cost collectives; right all the same."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
        values = maps(*BATCH)
        sharded = jax.device_put(values, NamedSharding(mesh, P("b")))
        assert_as_on_one_device(name, jax.jit(FUNCTIONS[name])(sharded), FUNCTIONS[name](values))


@pytest.mark.parametrize("name", slow_but(FIRST, FUNCTIONS))
def test_lowers_for_every_platform(name: str) -> None:
    """Lowered for CUDA and TPU as well, run on the CPU."""
    values = maps(*BATCH)

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
