"""A function gives one result however it is run: eager, jitted, mapped or sharded."""

import re
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
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
    KINDS,
    OTHERS,
    SELF_CONTAINED,
    SIZE,
    assert_as_on_one_device,
    assert_same,
    maps,
)
from tests.support import synthetic
from tests.support.cases import slow_but

# How the axes of a batch are sharded over the two axes of a mesh.
SPECS = (P("b", "j"), P("b"), P(None, "j"), P(("b", "j")))


def shared_out(*names: str) -> list[Any]:
    """Each name with the first of ``SPECS``; ``decode`` and soft-argmax with all of them."""
    every = [
        (name, spec)
        for name in names
        for spec in SPECS
        if name in ("decode", "soft argmax") or spec == SPECS[0]
    ]
    return slow_but([(name, SPECS[0]) for name in FIRST], every, unpack=True)


def of_one_image(name: str) -> Callable[[jax.Array], Any]:
    return lambda image: jax.tree.map(lambda leaf: leaf[0], FUNCTIONS[name](image[None]))


@pytest.mark.parametrize("name", slow_but(FIRST, (*KINDS, *OTHERS)))
def test_jit_of_vmap(name: str) -> None:
    """The images that are mapped over are along the second axis."""
    values = jnp.asarray(maps(*BATCH))
    mapped = jax.jit(jax.vmap(of_one_image(name), in_axes=1, out_axes=0))
    assert_same(mapped(values.swapaxes(0, 1)), FUNCTIONS[name](values))


def test_jit() -> None:
    """Only ``decode``: the other functions are compiled in the tests of exports and devices."""
    values = jnp.asarray(maps(*BATCH))
    assert_same(jax.jit(dark_jax.decode)(values), dark_jax.decode(values))


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_map_in_unequal_batches(name: str) -> None:
    values = jnp.asarray(maps(*BATCH))
    mapped = jax.lax.map(of_one_image(name), values, batch_size=3)
    assert_same(mapped, FUNCTIONS[name](values))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "peaks"])
def test_eager(name: str) -> None:
    """Each operation is compiled on its own."""
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


def assert_no_collective(compiled: jax.stages.Compiled) -> None:
    text = compiled.as_text()
    assert text is not None
    assert not COLLECTIVE.findall(text)


class TestSharded:
    """Tests on four virtual devices."""

    @pytest.fixture
    def mesh(self, request: pytest.FixtureRequest) -> jax.sharding.Mesh:
        return jax.make_mesh((2, 2), ("b", "j"), axis_types=(request.param,) * 2)

    @pytest.mark.parametrize("mesh", [AxisType.Auto], indirect=True, ids=str)
    @pytest.mark.parametrize(("name", "spec"), shared_out(*SELF_CONTAINED), ids=str)
    def test_no_collective(self, mesh: jax.sharding.Mesh, name: str, spec: P) -> None:
        values = maps(*BATCH)
        sharded = jax.device_put(values, NamedSharding(mesh, spec))
        compiled = jax.jit(FUNCTIONS[name]).lower(sharded).compile()
        assert_no_collective(compiled)
        found = compiled(sharded)
        for leaf in jax.tree.leaves(found):
            assert len(leaf.sharding.device_set) == 4
            assert not leaf.sharding.is_fully_replicated
        assert_as_on_one_device(name, found, FUNCTIONS[name](values))

    @pytest.mark.parametrize("mesh", [AxisType.Explicit], indirect=True, ids=str)
    @pytest.mark.parametrize("name", slow_but(FIRST, SELF_CONTAINED))
    def test_traces_on_an_explicit_mesh(self, mesh: jax.sharding.Mesh, name: str) -> None:
        """Results are sharded as the maps are, in every way. The function is traced, not run."""
        for spec in SPECS:
            sharding = NamedSharding(mesh, spec)
            sharded = jax.ShapeDtypeStruct((*BATCH, *SIZE), jnp.float32, sharding=sharding)
            with jax.set_mesh(mesh):
                shapes = jax.eval_shape(FUNCTIONS[name], sharded)
            for leaf in jax.tree.leaves(shapes):
                assert leaf.sharding.spec[: len(spec)] == (*spec, None)[: len(spec)], (spec, leaf)

    @pytest.mark.parametrize("mesh", [AxisType.Explicit], indirect=True, ids=str)
    @pytest.mark.parametrize("name", slow_but(("decode",), ("decode", "fit", "soft argmax")))
    def test_runs_on_an_explicit_mesh(self, mesh: jax.sharding.Mesh, name: str) -> None:
        """One function of each kind runs. The mesh is known only from the array."""
        values = maps(*BATCH)
        sharded = jax.device_put(values, NamedSharding(mesh, SPECS[0]))
        assert_as_on_one_device(name, FUNCTIONS[name](sharded), FUNCTIONS[name](values))

    @pytest.mark.parametrize("mesh", [AxisType.Auto], indirect=True, ids=str)
    @pytest.mark.parametrize("name", slow_but(("get_final_preds",), CHOOSING))
    def test_shard_map(self, mesh: jax.sharding.Mesh, name: str) -> None:
        """A function that chooses from the data does so inside ``shard_map``."""
        values, spec = maps(*BATCH), SPECS[0]
        sharded = jax.device_put(values, NamedSharding(mesh, spec))
        function = jax.jit(jax.shard_map(FUNCTIONS[name], mesh=mesh, in_specs=spec, out_specs=spec))
        compiled = function.lower(sharded).compile()
        assert_no_collective(compiled)
        assert_as_on_one_device(name, compiled(sharded), FUNCTIONS[name](values))

    @pytest.mark.parametrize("mesh", [AxisType.Explicit], indirect=True, ids=str)
    @pytest.mark.parametrize("name", slow_but((), (*FIRST, "fit", "soft argmax")))
    def test_shard_map_on_an_explicit_mesh(self, mesh: jax.sharding.Mesh, name: str) -> None:
        """The maps are sharded in every way. The function is traced, not run."""
        for spec in SPECS:
            sharding = NamedSharding(mesh, spec)
            sharded = jax.ShapeDtypeStruct((*BATCH, *SIZE), jnp.float32, sharding=sharding)
            function = jax.shard_map(FUNCTIONS[name], mesh=mesh, in_specs=spec, out_specs=spec)
            jax.eval_shape(function, sharded)

    @pytest.mark.parametrize("name", slow_but(FIRST, CHOOSING))
    def test_choosing_on_an_explicit_mesh(self, name: str) -> None:
        """The documentation says that this is refused outside ``shard_map``."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Explicit,))
        sharded = jax.device_put(maps(*BATCH), NamedSharding(mesh, P("b")))
        with jax.set_mesh(mesh), pytest.raises(ValueError, match="should be replicated"):
            FUNCTIONS[name](sharded)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", CHOOSING)
    def test_choosing_on_a_sharded_batch(self, name: str) -> None:
        """The documentation says that this needs collectives. The result is right."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
        values = maps(*BATCH)
        sharded = jax.device_put(values, NamedSharding(mesh, P("b")))
        assert_as_on_one_device(name, jax.jit(FUNCTIONS[name])(sharded), FUNCTIONS[name](values))


# Four devices do not divide the 6 images, and two do not divide the 3 joints.
UNEVEN = (6, 3)


class TestUnevenShards:
    """Batches that the devices do not divide, and devices that are left over."""

    def assert_constrained(self, name: str, spec: P, images: int) -> None:
        """A sharding that is only stated inside ``jit`` changes nothing."""
        mesh = jax.make_mesh((2, 2), ("b", "j"), axis_types=(AxisType.Auto,) * 2)
        values = maps(*UNEVEN)[:images]

        @jax.jit
        def found(values: jax.Array) -> Any:
            return FUNCTIONS[name](lax.with_sharding_constraint(values, NamedSharding(mesh, spec)))

        assert_as_on_one_device(name, found(values), FUNCTIONS[name](values))

    @pytest.mark.parametrize(("name", "spec"), shared_out(*KINDS), ids=str)
    def test_a_constraint_inside_jit(self, name: str, spec: P) -> None:
        """XLA pads the shards."""
        self.assert_constrained(name, spec, images=6)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", FIRST)
    def test_devices_that_hold_nothing(self, name: str) -> None:
        """There is only one image."""
        self.assert_constrained(name, SPECS[0], images=1)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", KINDS)
    def test_rows_are_shared_out(self, name: str) -> None:
        """No device has a whole map. The result is right, whatever that costs."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
        values = maps(*UNEVEN)
        sharded = jax.device_put(values, NamedSharding(mesh, P(None, None, "b")))
        assert_as_on_one_device(name, jax.jit(FUNCTIONS[name])(sharded), FUNCTIONS[name](values))

    @pytest.mark.parametrize(
        ("name", "kind"),
        slow_but(
            [("get_final_preds", AxisType.Auto)],
            [(name, AxisType.Auto) for name in KINDS]
            + [(name, AxisType.Explicit) for name in FIRST],
            unpack=True,
        ),
        ids=str,
    )
    def test_some_of_the_devices(self, name: str, kind: AxisType) -> None:
        """Two of the four devices are used. ``CHOOSING`` functions run inside ``shard_map``."""
        mesh = jax.make_mesh((2,), ("b",), axis_types=(kind,), devices=jax.devices()[1:3])
        values, spec = maps(*BATCH), P("b")
        function: Callable[..., Any] = FUNCTIONS[name]
        if name in CHOOSING:
            function = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)
        found = jax.jit(function)(jax.device_put(values, NamedSharding(mesh, spec)))
        assert_as_on_one_device(name, found, FUNCTIONS[name](values))

    @pytest.mark.parametrize("name", slow_but(FIRST, KINDS))
    def test_filled_up(self, name: str) -> None:
        """The padding of a batch changes no other map, even if it is NaN on only one device."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
        values, spec = maps(*BATCH), P("b")
        filled = values.copy()
        filled[6:] = np.nan
        function: Callable[..., Any] = FUNCTIONS[name]
        if name in CHOOSING:
            function = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)
        found = jax.jit(function)(jax.device_put(filled, NamedSharding(mesh, spec)))
        pair = found, FUNCTIONS[name](values)
        few = [jax.tree.map(lambda leaf: leaf[:6], each) for each in pair]
        assert_as_on_one_device(name, *few)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", KINDS)
    def test_an_empty_batch(self, name: str) -> None:
        """The empty batch is sharded too, so that every device holds nothing."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
        values, spec = maps(*BATCH)[:0], P("b")
        function = jax.shard_map(FUNCTIONS[name], mesh=mesh, in_specs=spec, out_specs=spec)
        found = jax.jit(function)(jax.device_put(values, NamedSharding(mesh, spec)))
        assert_same(found, FUNCTIONS[name](values))

    @pytest.mark.slow
    @pytest.mark.parametrize("name", KINDS)
    def test_shard_map_of_one_axis_of_two(self, name: str) -> None:
        """The other axis of the mesh is left to XLA."""
        mesh = jax.make_mesh((2, 2), ("b", "j"), axis_types=(AxisType.Auto,) * 2)
        values, spec = maps(*BATCH), P("b")
        function = jax.shard_map(
            FUNCTIONS[name], mesh=mesh, in_specs=spec, out_specs=spec, axis_names={"b"}
        )
        sharded = jax.device_put(values, NamedSharding(mesh, spec))
        assert_as_on_one_device(name, jax.jit(function)(sharded), FUNCTIONS[name](values))


def test_precision_is_stated_wherever_a_product_feeds_a_log() -> None:
    """Products in TF32 (the default of GPUs) or bfloat16 (of TPUs) would leave only noise."""
    text = str(jax.make_jaxpr(dark_jax.decode)(jnp.ones((1, 1, *SIZE))))
    products = re.findall(r"dot_general\[.*?\] (?=\w)", text, flags=re.DOTALL)
    logged = [product for product in products if "Precision.HIGHEST" in product]
    # The third product looks for NaN, which every precision keeps.
    assert (len(logged), len(products)) == (2, 3)


@pytest.mark.parametrize("name", SELF_CONTAINED)
def test_nothing_loops_or_calls_out(name: str) -> None:
    """A loop over maps, a branch or a callback would be expensive on a GPU."""
    text = str(jax.make_jaxpr(FUNCTIONS[name])(jnp.ones((2, 3, *SIZE))))
    for primitive in ("while", "scan", "cond", "callback", "custom_call", "sort"):
        assert not re.search(rf"= {primitive}\b", text), primitive
