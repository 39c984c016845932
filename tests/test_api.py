"""The public surface, by reflection."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import dark_jax

PACKAGE = Path(dark_jax.__file__).parent

REFERENCE = {"get_max_preds", "gaussian_blur", "taylor", "get_final_preds"}

# The rooms, bottom to top: each imports only from those before it.
ROOMS = (
    "checks",
    "batch",
    "floats",
    "keypoints",
    "peak",
    "gaussian",
    "stencil",
    "window",
    "taylor",
    "blob",
    "propagate",
    "rules",
    "refine",
    "decode",
    "fit",
    "sigma",
    "peaks",
    "simcc",
    "soft_argmax",
    "encode",
    "image",
    "affine",
    "box",
    "crop",
    "flip",
    "compare",
    "metrics",
    "extras",
    "files",
    "tables",
    "coco",
    "pieces",
    "sources",
    "targets",
    "unfinished",
    "engine",
    "store",
    "__init__",
    "samples",
    "export",
    "plot",
    "cli",
    "__main__",
)

MODULES = ("coco", "image", "metrics", "rules")

FUNCTIONS = {
    f"{prefix}{name}": value
    for prefix, module in {"": dark_jax, **{f"{m}.": getattr(dark_jax, m) for m in MODULES}}.items()
    for name, value in vars(module).items()
    if inspect.isfunction(value)
    and not name.startswith("_")
    and (value.__module__ == module.__name__ or not prefix)
}


def test_all_is_the_namespace() -> None:
    public = {
        name
        for name, value in vars(dark_jax).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    } | set(MODULES)
    assert dark_jax.__all__ == sorted(public, key=lambda name: (name[0].islower(), name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_keyword_only(name: str) -> None:
    if name in REFERENCE:
        return
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        if parameter.default is not parameter.empty:
            assert parameter.kind is parameter.KEYWORD_ONLY


def test_reference_signatures() -> None:
    found = {name: list(inspect.signature(FUNCTIONS[name]).parameters) for name in REFERENCE}
    assert found == {
        "get_max_preds": ["heatmaps"],
        "gaussian_blur": ["heatmaps", "kernel"],
        "taylor": ["heatmap", "coord"],
        "get_final_preds": ["heatmaps", "kernel"],
    }
    for name in ("gaussian_blur", "get_final_preds"):
        assert inspect.signature(FUNCTIONS[name]).parameters["kernel"].default == 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_are_complete(name: str) -> None:
    doc = inspect.getdoc(FUNCTIONS[name]) or ""
    for section in ("Args:", "Returns:", "Raises:", "References:", "Example:"):
        assert section in doc, section
    for parameter in inspect.signature(FUNCTIONS[name]).parameters:
        assert f"    {parameter}: " in doc


def test_keypoints_are_frozen_pytrees_built_by_name() -> None:
    keypoints = dark_jax.Keypoints(coords=1, scores=2, status=3, covariance=4)  # pyright: ignore[reportArgumentType]
    assert jax.tree.leaves(keypoints) == [1, 4, 2, 3]
    assert jax.tree.map(lambda leaf: -leaf, keypoints).scores == -2
    with pytest.raises(Exception, match="cannot assign"):
        keypoints.scores = 4  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Exception, match="positional"):
        dark_jax.Keypoints(1, 2, 3, 4)  # pyright: ignore[reportCallIssue]
    assert not hasattr(keypoints, "keys")


def test_status_values_are_stable() -> None:
    assert {status.name: status.value for status in dark_jax.Status} == {
        "REFINED": 0,
        "NOT_FINITE": 1,
        "NO_PEAK": 2,
        "BORDER": 3,
        "NOT_CONCAVE": 4,
        "STEP_TOO_LONG": 5,
    }


def test_imports_point_one_way() -> None:
    """Each room imports only from rooms below it, and none from JAX's private modules."""
    files = {path.stem: path for path in PACKAGE.glob("*.py")}
    files["samples"] = PACKAGE / "samples" / "__init__.py"
    assert set(files) == set(ROOMS)
    for room, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
                if node.module == "dark_jax":
                    modules = [f"dark_jax.{alias.name}" for alias in node.names]
            else:
                continue
            for module in modules:
                assert not module.startswith("jax._src")
                if module == "dark_jax":
                    assert ROOMS.index("__init__") < ROOMS.index(room)
                elif module.startswith("dark_jax."):
                    assert ROOMS.index(module.split(".")[1]) < ROOMS.index(room), (room, module)


def test_import_brings_in_nothing_optional() -> None:
    code = (
        "import sys, dark_jax\n"
        "extra = {'click', 'rich', 'matplotlib', 'PIL', 'cv2', 'pyarrow', 'faster_coco_eval'}\n"
        "extra |= {'zarr', 'dask', 'distributed', 'h5py', 'locket', 'flax'}\n"
        "assert not extra & set(sys.modules), extra & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_extra_names_its_cure() -> None:
    from dark_jax import extras

    with pytest.raises(ImportError, match=r'pip install "dark_jax\[plot\]"'):
        extras.load("a_package_nobody_has.part", extra="plot")
