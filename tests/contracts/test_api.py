"""Tests of the public names, signatures and docstrings, by reflection."""

import ast
import builtins
import doctest
import enum
import importlib
import inspect
import pydoc
import re
from typing import Any

import jax
import pytest

import dark_jax

REFERENCE = {"get_max_preds", "gaussian_blur", "taylor", "get_final_preds"}

# The public modules. ``import dark_jax`` does not import the last three.
MODULES = ("coco", "conventions", "metrics", "rules", "skeletons", "export", "plot", "samples")
NAMESPACES = {name: importlib.import_module(f"dark_jax.{name}") for name in MODULES}

PUBLIC: dict[str, Any] = {
    f"{prefix}{name}": getattr(module, name)
    for prefix, module in {"": dark_jax, **{f"{m}.": NAMESPACES[m] for m in MODULES}}.items()
    for name in module.__all__
}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
DOCUMENTED = {
    **FUNCTIONS,
    **CLASSES,
    **{f"dark_jax.{name}": module for name, module in NAMESPACES.items()},
}

# Brackets in a docstring, except those that hold an index: a slice or a quoted name.
SHAPE = re.compile(r"\[([^\[\]:'\"]*)\]")

SECTIONS = ("Args", "Attributes", "Returns", "Notes", "Raises", "Example", "References")


def sections(value: Any) -> dict[str, str]:
    """The sections of a docstring in order, by title. The text before them has an empty title."""
    doc = inspect.getdoc(value) or ""
    text, *others = re.split(rf"^({'|'.join(SECTIONS)}):\n", doc, flags=re.MULTILINE)
    return {"": text, **dict(zip(others[::2], others[1::2], strict=True))}


def entries(section: str) -> dict[str, str]:
    """The description of each name in a section."""
    _, *others = re.split(r"^    \**(\w+): ", section, flags=re.MULTILINE)
    return dict(zip(others[::2], others[1::2], strict=True))


def attributes(cls: type) -> list[str]:
    """The names of the fields of a class, or of the members of an enumeration."""
    if issubclass(cls, enum.Enum):
        return [member.name for member in cls]
    return [*inspect.signature(cls).parameters]


def test_all_is_the_namespace() -> None:
    public = {
        name
        for name, value in vars(dark_jax).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    } | {"coco", "conventions", "metrics", "rules", "skeletons"}
    assert dark_jax.__all__ == sorted(public, key=lambda name: (name[0].islower(), name))


# Names that a module exports but does not define. A user's own rule needs them.
ALSO_SHOWN = {"rules": {"COMPACT", "TAYLOR", "Padding", "Rescale", "Stencil"}}


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_a_module_defines(name: str) -> None:
    """The names come from its file or, for a package, from the files that it imports."""
    defined = set()
    for node in ast.parse(inspect.getsource(NAMESPACES[name])).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [at for target in targets for at in ast.walk(target)]
            defined |= {at.id for at in names if isinstance(at, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and f"dark_jax.{name}." in (node.module or ""):
            defined |= {alias.name for alias in node.names}
    public = {name for name in defined if not name.startswith("_")} | ALSO_SHOWN.get(name, set())
    assert sorted(NAMESPACES[name].__all__) == sorted(public)


IN_PLACE = {("apply_affine", "affine"), ("to_image", "affine")}  # ``spacing`` may replace it


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in {**FUNCTIONS, **CLASSES}.items()
        if name not in REFERENCE and not isinstance(value, enum.EnumType)
    ],
)
def test_defaults_are_keyword_only(name: str) -> None:
    """Every default is keyword-only, except for an array which another argument may replace."""
    for parameter in inspect.signature(PUBLIC[name]).parameters.values():
        if parameter.default is not parameter.empty and (name, parameter.name) not in IN_PLACE:
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


@pytest.mark.parametrize("name", {**FUNCTIONS, **CLASSES})
def test_docstrings_are_complete(name: str) -> None:
    """Every section is present, in a fixed order, and describes every name."""
    value = PUBLIC[name]
    found = sections(value)
    notes = ["Notes"] if "Notes" in found else []
    if inspect.isclass(value):
        assert [*found] == ["", "Attributes", *notes, "Example", "References"]
        assert [*entries(found["Attributes"])] == attributes(value)
    else:
        parameters = [*inspect.signature(value).parameters]
        before = ["", "Args"] if parameters else [""]
        assert [*found] == [*before, "Returns", *notes, "Raises", "Example", "References"]
        assert [*entries(found.get("Args", ""))] == parameters
        for error in entries(found["Raises"]):
            assert issubclass(getattr(builtins, error, None) or PUBLIC[error], Exception)
    assert found[""].split("\n")[0].endswith("."), "no summary in one line"
    assert all(text.strip() for text in found.values())


@pytest.mark.parametrize("name", {**FUNCTIONS, **CLASSES})
def test_examples_show_what_comes_out(name: str) -> None:
    """Doctests run the examples (pytest --doctest-modules). An example must have output."""
    examples = doctest.DocTestParser().get_examples(sections(PUBLIC[name])["Example"])
    assert any(example.want for example in examples)


TYPES = re.compile(
    r"\b(float\d*|u?int\d*|integers?|real|numbers?|bool(ean)?s?|any type|same type)\b"
    r"|as ``\w+``|Keypoints"
)


@pytest.mark.parametrize("name", {**FUNCTIONS, **CLASSES})
def test_arrays_have_a_type(name: str) -> None:
    """Every argument with a shape and every returned array states its type, or is ``Keypoints``."""
    value, found = PUBLIC[name], sections(PUBLIC[name])
    told = entries(found.get("Args", found.get("Attributes", "")))
    told = {k: v for k, v in told.items() if SHAPE.search(v) and k not in ("axes", "axis", "dims")}
    if "Array" in str(inspect.signature(value).return_annotation):
        told["Returns"] = found["Returns"]
    assert [name for name, text in told.items() if not TYPES.search(text)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_shows_types_as_they_are_written(name: str) -> None:
    """``help`` shows ArrayLike, not the eight types that it stands for."""
    assert all(isinstance(shown, str) for shown in FUNCTIONS[name].__annotations__.values())


@pytest.mark.parametrize("name", CLASSES)
def test_help_of_classes_shows_no_private_type(name: str) -> None:
    """Fields, methods and properties show jax.Array, not the private module that defines it."""
    cls = CLASSES[name]
    members = [each.fget if isinstance(each, property) else each for each in vars(cls).values()]
    shown = [cls, *(each for each in members if inspect.isfunction(each))]
    for each in shown if not issubclass(cls, enum.Enum) else ():
        assert not re.search(r"jaxlib|[\w.]+\._\w+", str(inspect.signature(each))), each
    text = pydoc.render_doc(cls)
    assert "jaxlib" not in text


# Arguments that are lengths or positions.
LENGTHS = {"boxes", "coords", "kernel_size", "max_sigma", "min_distance", "normalize"}
LENGTHS |= {"coord", "head_boxes", "kernel", "radius", "shift", "sigma", "stride", "truth"}
LENGTHS |= {"blur_sigma"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lengths_have_a_unit(name: str) -> None:
    """A length has a unit, or refers to a function which states the unit."""
    for parameter, text in entries(sections(FUNCTIONS[name]).get("Args", "")).items():
        if parameter in LENGTHS:
            assert re.search(r"pixel|bins|as for :func:", text), parameter


def listed(module: Any) -> list[str]:
    """The names that the lists of a docstring explain, as in ``- ``A``, ``B``: two letters``."""
    heads = re.findall(r"^- ((?:``\w+``(?:, |: ))+)", module.__doc__ or "", re.MULTILINE)
    return re.findall(r"\w+", " ".join(heads))


LETTERS = listed(dark_jax)


def shapes(value: Any) -> set[str]:
    """The letters in the shapes of a docstring."""
    text = "".join(text for name, text in sections(value).items() if name != "Example")
    return {letter for shape in SHAPE.findall(text) for letter in re.findall(r"[^\W\d]\w*", shape)}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_letters_of_shapes_are_declared(name: str) -> None:
    value = DOCUMENTED[name]
    parameters = inspect.signature(value).parameters if inspect.isfunction(value) else ()
    assert shapes(value) <= {*LETTERS, *parameters}


def test_letters_of_shapes_are_used() -> None:
    assert len(LETTERS) == len(set(LETTERS))
    assert set(LETTERS) <= set().union(*map(shapes, DOCUMENTED.values()))


def test_the_package_leads_to_everything() -> None:
    apart = [f"dark_jax.{name}" for name in MODULES if name not in dark_jax.__all__]
    for name in (*dark_jax.__all__, *apart):
        assert f"``{name}``" in (dark_jax.__doc__ or ""), name


@pytest.mark.parametrize("name", MODULES)
def test_modules_explain_their_data(name: str) -> None:
    module = NAMESPACES[name]
    explained = {name for name in module.__all__ if hasattr(getattr(module, name), "__name__")}
    assert sorted(listed(module)) == sorted(set(module.__all__) - explained)


def test_keypoints_are_frozen_pytrees_built_by_name() -> None:
    keypoints: Any = dark_jax.Keypoints(coords=1, scores=2, status=3, covariance=4)  # pyright: ignore[reportArgumentType]
    assert jax.tree.leaves(keypoints) == [1, 4, 2, 3]
    assert jax.tree.map(lambda leaf: -leaf, keypoints).scores == -2
    with pytest.raises(Exception, match="cannot assign"):
        keypoints.scores = 4
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
