"""An exported decoder gives the same bits as the decoder, wherever its file is read."""

import functools
import inspect
import io
import json
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dark_jax
from tests.contracts.decoders import (
    BATCH,
    COLLECTIVE,
    FUNCTIONS,
    KINDS,
    OTHERS,
    RULES,
    SIZE,
    maps,
)
from tests.support import synthetic, tolerances
from tests.support.cases import slow_but

pytest.importorskip("flatbuffers")

from dark_jax import export


def assert_same_bits(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def assert_same_result(found: Any, expected: Any) -> None:
    """Results agree to the bit. A covariance, a quotient of long sums, may differ by 4 eps."""
    if isinstance(expected, dict) and "covariance" in expected:
        few = 4 * tolerances.EPS32
        np.testing.assert_allclose(found["covariance"], expected["covariance"], rtol=few, atol=few)
        found, expected = ({**each, "covariance": None} for each in (found, expected))
    assert_same_bits(found, expected)


def plain(result: Any) -> Any:
    """Turn keypoints into a dictionary, as an artefact does."""
    if not isinstance(result, dark_jax.Keypoints):
        return result
    return {name: field for name, field in vars(result).items() if field is not None}


def compiled(decoder: Callable[..., dark_jax.Keypoints], **options: Any) -> Callable[..., Any]:
    """The decoder as a user would compile it, with a dictionary as its result."""
    return jax.jit(lambda heatmaps: plain(decoder(heatmaps, **options)))


@pytest.fixture(scope="module")
def artefact() -> bytes:
    return export.export_decode(size=SIZE)


slow = pytest.mark.slow


@pytest.mark.parametrize("name", slow_but(("decode",), (*KINDS, *OTHERS, *RULES)))
def test_any_batch_gives_the_same_bits(name: str) -> None:
    """The artefact is lowered for CUDA and TPU as well, and runs on the CPU."""
    decoder: Any = {**FUNCTIONS, **RULES}[name]
    if "axes" in inspect.signature(getattr(decoder, "function", decoder)).parameters:
        bound = functools.partial(decoder.function, **decoder.options)
        artefact = export.export_decode(size=SIZE, decoder=bound)
    else:
        batch = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"b, j, {SIZE[0]}, {SIZE[1]}"), "f4")
        artefact = export.export_function(decoder, batch)
    decode = export.load(artefact)
    assert decode.exported.platforms == ("cpu", "cuda", "tpu")
    expected = jax.jit(lambda heatmaps: plain(decoder(heatmaps)))(maps(*BATCH))
    assert_same_result(decode(maps(*BATCH)), expected)


LAYOUTS = {
    # axes: (size, positions of the batch axes in the input)
    (-3, -2): (SIZE, (0, 3)),
    (-1,): (SIZE[1:], (0, 1)),
    (0, 2): (SIZE, (1, 3)),
    (-3, -2, -1): ((6, 10, 9), (0, 1)),
}


@slow
@pytest.mark.parametrize("axes", LAYOUTS)
def test_every_layout(axes: tuple[int, ...]) -> None:
    size, places = LAYOUTS[axes]
    decode = export.load(export.export_decode(size=size, joints=3, axes=axes))
    values = synthetic.rng(0).random((2, 3, *size), np.float32)
    values = np.moveaxis(values, (0, 1), places)
    assert_same_bits(decode(values), compiled(dark_jax.decode, axes=axes)(values))


@slow
def test_half_precision() -> None:
    values = jnp.asarray(maps(2, 3), jnp.bfloat16)
    decode = export.load(export.export_decode(size=SIZE, dtype=jnp.bfloat16, platforms=("cpu",)))
    assert_same_bits(decode(values), compiled(dark_jax.decode)(values))


def test_about(artefact: bytes) -> None:
    """Any unzip program shows what is in an artefact and what made it."""
    with zipfile.ZipFile(io.BytesIO(artefact)) as archive:
        assert archive.namelist() == ["about.json", "function.jax_export"]
        about = json.loads(archive.read("about.json"))
    assert about == export.load(artefact).about
    assert about == {
        "format": export.FORMAT,
        "dark_jax": dark_jax.__version__,
        "jax": jax.__version__,
        "platforms": ["cpu", "cuda", "tpu"],
        "inputs": ["float32[batch,joints,20,18]"],
        "outputs": {
            "coords": "float32[batch,joints,2]",
            "scores": "float32[batch,joints]",
            "status": "int8[batch,joints]",
        },
        "parameters": {
            "decoder": "decode",
            "rule": "rules.GUARDED",
            "kernel_size": None,
            "blur_sigma": None,
            "covariance": False,
            "axes": [-2, -1],
        },
    }


def test_says_nothing_of_the_machine_that_made_it(artefact: bytes) -> None:
    """A second export gives the same bytes, without a file name. JAX's setting is restored."""
    setting = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, setting)
    assert artefact == export.export_decode(size=SIZE)
    assert getattr(jax.config, setting) == before
    assert b".py" not in artefact


def network() -> Callable[[jax.Array], dark_jax.Keypoints]:
    """A small flax network, which makes maps of images, and its decoder."""
    nnx = pytest.importorskip("flax.nnx")
    random = synthetic.rng(0)

    def weights(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.asarray(random.standard_normal(shape), dtype)

    rngs = nnx.Rngs(0)
    layers = nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), kernel_init=weights, rngs=rngs),
        nnx.relu,
        nnx.Conv(8, 4, (3, 3), kernel_init=weights, rngs=rngs),
    )
    return lambda images: dark_jax.decode(layers(images), axes=(-3, -2))


@slow
def test_a_server_needs_neither_dark_jax_nor_flax(tmp_path: Path) -> None:
    """One file holds a network and its decoder. The recipe of the module's docstring reads it."""
    pose = network()
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 20, 18, 3"), jnp.float32)
    export.save(export.export_function(pose, images), tmp_path / "decode.zip")
    values = synthetic.rng(0).random((5, *SIZE, 3), np.float32)
    expected = compiled(pose)(values)
    assert (expected["status"] == dark_jax.Status.REFINED).any()
    np.savez(tmp_path / "images.npz", images=values)

    recipe = re.search(r"::\n\n(.*?)\n\n", inspect.getdoc(export) or "", flags=re.DOTALL)
    assert recipe is not None
    server = """
    import sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("dark_jax", "flax", "chex"):
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Refuse())
    import zipfile, jax.export, numpy as np
    heatmaps = np.load("images.npz")["images"]
    {recipe}
    assert type(decode(heatmaps)) is dict
    np.savez("found.npz", **decode(heatmaps))
    assert not {{"dark_jax", "flax"}} & set(sys.modules)
    """
    code = textwrap.dedent(server).format(recipe=textwrap.dedent(recipe[1]))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    with np.load(tmp_path / "found.npz") as found:
        assert_same_bits(dict(found), {name: np.asarray(v) for name, v in expected.items()})


def test_a_function_of_several_arguments_and_results() -> None:
    """Keypoints become dictionaries anywhere in the result."""
    one = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 9, 9"), jnp.float32)

    def both(maps: dict[str, jax.Array], scale: jax.Array) -> list[Any]:
        keypoints = dark_jax.decode(maps["x"] + maps["y"], rule=dark_jax.rules.HRNET)
        return [keypoints, (scale * maps["x"].max(), None)]

    parameters = {"sigma": np.float32(6.0), "bins": np.arange(2), "rule": dark_jax.rules.GUARDED}
    pair = {"x": one, "y": one}
    function = export.load(
        export.export_function(both, pair, np.float32(0), platforms=("cpu",), parameters=parameters)
    )
    values = synthetic.rng(0).random((2, 2, 9, 9), np.float32)
    arguments = {"x": values[0], "y": values[1]}, np.float32(2)
    keypoints, rest = jax.jit(both)(*arguments)
    assert_same_bits(function(*arguments), [plain(keypoints), rest])
    assert function.about["parameters"] == {
        "sigma": 6.0,
        "bins": [0, 1],
        "rule": "rules.GUARDED",
    }
    assert function.about["inputs"] == ["float32[batch,9,9]", "float32[batch,9,9]", "float32[]"]


@pytest.mark.parametrize(
    "kind", slow_but([AxisType.Auto], [AxisType.Auto, AxisType.Explicit]), ids=str
)
def test_on_a_sharded_batch(artefact: bytes, kind: AxisType) -> None:
    """One artefact runs on four devices without a collective."""
    decode, values = export.load(artefact), maps(*BATCH)
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(kind,))
    sharded = jax.device_put(values, NamedSharding(mesh, P("batch")))
    # The rounding of a product depends on how many maps a device holds.
    parts = [compiled(dark_jax.decode)(part) for part in np.split(np.asarray(values), 4)]
    expected = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    for function in (
        decode,
        jax.shard_map(decode, mesh=mesh, in_specs=P("batch"), out_specs=P("batch")),
    ):
        program = jax.jit(function).lower(sharded).compile()
        assert not COLLECTIVE.findall(program.as_text() or "")
        found = program(sharded)
        assert all(len(leaf.sharding.device_set) == 4 for leaf in jax.tree.leaves(found))
        assert_same_bits(found, expected)


def test_an_empty_batch(artefact: bytes) -> None:
    """``jax.export`` has no program for an empty batch."""
    decode, values = export.load(artefact), maps(2, 3)
    for none in (values[:0], values[:, :0], values[:0, :0]):
        for function in (decode, jax.jit(decode)):
            found, expected = function(none), plain(dark_jax.decode(none))
            assert found.keys() == expected.keys()
            for name, leaf in found.items():
                assert (leaf.shape, leaf.dtype) == (expected[name].shape, expected[name].dtype)
    # A sum over an empty batch is not an empty array, so its value needs a program.
    whole = export.export_function(
        lambda x: x.sum(),
        jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 2"), jnp.float32),
        platforms=("cpu",),
    )
    with pytest.raises(ValueError, match="Expected value >= 1 for dimension variable 'batch'"):
        export.load(whole)(np.zeros((0, 2), np.float32))


def test_calls_that_do_not_fit(artefact: bytes) -> None:
    decode, values = export.load(artefact), maps(2, 3)
    for wrong, message in (
        (values[0], "Rank mismatch"),
        (values[..., 1:], r"expected \(batch, joints, 20, 18\)"),
        (values.astype(np.float16), "expected float32"),
        (values[:0, :, 1:], r"expected \(batch, joints, 20, 18\)"),
        (values[:0, 0], "Rank mismatch"),
        (values[:0].astype(np.float16), "expected float32"),
    ):
        with pytest.raises(ValueError, match=message):
            decode(wrong)
