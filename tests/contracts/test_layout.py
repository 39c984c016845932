"""The layout of the package: imports point one way, and public names stay public.

A wing is a subpackage or a module of ``dark_jax``.
"""

import ast
import copy
import doctest
import graphlib
import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dark_jax
from tests.contracts.test_api import CLASSES, FUNCTIONS, PUBLIC

PACKAGE = Path(dark_jax.__file__).parent
TESTS = Path(__file__).parents[1]

# For each wing, the wings that it may import from. Within a wing imports are free, but they must
# not form a cycle.
WINGS: dict[str, set[str]] = {
    "_core": set(),
    "_ops": {"_core.numerics"},
    "conventions": {"_core"},
    "skeletons": {"_core"},
    "rules": {"_core", "_ops"},
    "_codecs": {"_core", "_ops", "rules"},
    "_geometry": {"_core", "conventions"},
    "metrics": {"_core"},
    "_io": {"_core"},
    "coco": {"_core", "_io", "skeletons"},
    "_stores": {"_core", "_io", "_codecs", "rules"},
}
# Wings that few users need. They may also import from the package, as users do.
ABOVE: dict[str, set[str]] = {
    "samples": set(),
    "export": {"_core", "_codecs", "_io"},
    "plot": {"_core", "_codecs"},
    "_terminal": {"_core", "_io"},
    "_decoder_options": {"_stores", "rules"},
    "_cli": {
        *("_core", "_codecs", "_io", "_stores", "_terminal", "_decoder_options"),
        *("plot", "samples"),
    },
    "__main__": {"_core", "_cli"},
}

MODULES = ["dark_jax", *(m.name for m in pkgutil.walk_packages(dark_jax.__path__, "dark_jax."))]


def imported(path: Path) -> set[str]:
    """The modules of the package and of jax that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module or "" for name in names}
    return {name for name in found if name.partition(".")[0] in ("dark_jax", "jax")}


def wing(module: str) -> str:
    """The second part of a module's name, or "" for the package itself."""
    return [*module.split("."), ""][1]


def file_of(module: str) -> Path:
    folder = PACKAGE.parent.joinpath(*module.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


GRAPH = {module: imported(file_of(module)) for module in MODULES}


def test_every_module_has_its_wing() -> None:
    assert {wing(module) for module in MODULES} == {"", *WINGS, *ABOVE}


@pytest.mark.parametrize("name", [*WINGS, *ABOVE])
def test_imports_point_one_way(name: str) -> None:
    """Only wings below are imported; ``ABOVE`` may import the package. jax._src is forbidden."""
    allowed = {f"dark_jax.{other}" for other in {**WINGS, **ABOVE}[name]}
    for module, names in GRAPH.items():
        assert not {n for n in names if n.startswith("jax._src")}, module
        if wing(module) == name:
            for other in {n for n in names if n.startswith("dark_jax") and wing(n) != name}:
                below = any(other == a or other.startswith(f"{a}.") for a in allowed)
                assert below or (other == "dark_jax" and name in ABOVE), (module, other)


def test_the_package_imports_nothing_that_few_ask_for() -> None:
    assert {wing(name) for name in GRAPH["dark_jax"] if wing(name)} <= {*WINGS}


def test_imports_go_in_no_circle() -> None:
    inner = {module: names for module, names in GRAPH.items() if wing(module) in WINGS}
    graphlib.TopologicalSorter(inner).prepare()


@pytest.mark.parametrize("name", [name for name in WINGS if name.startswith("_")])
def test_a_wing_shows_nothing_by_itself(name: str) -> None:
    """Its ``__init__`` is only a docstring, so that its names are always modules."""
    tree = ast.parse((PACKAGE / name / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_hidden_by_a_function(name: str) -> None:
    """``import a.b as m`` gives the module, as ``from a import b`` does."""
    if name != "dark_jax.__main__":
        module: Any = importlib.import_module(name)
        found: Any = dark_jax
        for part in name.split(".")[1:]:
            found = getattr(found, part)
        assert found is module
        assert isinstance(found, ModuleType)


def namespace(name: str) -> str:
    return f"dark_jax.{name.rpartition('.')[0]}".rstrip(".")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_show_no_private_path(name: str) -> None:
    assert FUNCTIONS[name].__module__ == namespace(name)


@pytest.mark.parametrize("name", CLASSES)
def test_source_of_classes_is_found(name: str) -> None:
    """Python finds the source by ``__module__``, so a class of a private file must name it."""
    assert f"class {CLASSES[name].__name__}" in inspect.getsource(CLASSES[name])


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if not inspect.ismodule(value)]
)
def test_public_objects_survive_pickle_and_copy(name: str) -> None:
    value = PUBLIC[name]
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert other == value


def test_every_example_is_a_doctest() -> None:
    """The package and every public function and class have examples, which are found once each."""
    finder, found = doctest.DocTestFinder(exclude_empty=True), []
    for name in MODULES:
        tests = finder.find(importlib.import_module(name), name) if "__" not in name else []
        found += [test.name for test in tests if test.examples]
    public = [f"{v.__module__}.{v.__name__}" for v in (*FUNCTIONS.values(), *CLASSES.values())]
    assert sorted(found) == sorted(["dark_jax", *public])


def test_import_brings_in_nothing_optional() -> None:
    code = (
        "import sys, jax, chex\n"
        "theirs = set(sys.modules)\n"  # JAX imports filelock where it is installed
        "import dark_jax\n"
        "extra = {'click', 'rich', 'matplotlib', 'PIL', 'cv2', 'pyarrow', 'faster_coco_eval'}\n"
        "extra |= {'zarr', 'dask', 'distributed', 'h5py', 'filelock', 'flax'}\n"
        "assert not extra & (set(sys.modules) - theirs), extra & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkout_on_the_path_needs_no_installation() -> None:
    """A checkout can be imported if the package is not installed. Its version is then unknown."""
    code = (
        "import importlib.metadata as metadata\n"
        "installed = metadata.version\n"
        "def version(name):\n"
        "    if name == 'dark-jax':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return installed(name)\n"
        "metadata.version = version\n"
        "import dark_jax, dark_jax._stores.decode_store\n"
        "assert dark_jax.__version__ == '0+unknown', dark_jax.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_extra_names_its_cure() -> None:
    from dark_jax._core import optional

    with pytest.raises(ImportError, match=r'pip install "dark_jax\[plot\]"'):
        optional.load("a_package_nobody_has.part", extra="plot")


def test_files_and_functions_stay_small() -> None:
    """Files have at most 400 lines. Functions have at most 60 without their docstrings."""
    for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")):
        text = path.read_text()
        lines = len(text.splitlines())
        assert lines <= 400, (path, lines)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node) is not None
                code = _lines(node) - documented * _lines(node.body[0])
                assert code <= 60, (path, node.name, code)


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or 0) - node.lineno + 1
