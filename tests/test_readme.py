"""The README's code runs, its commands are those of the gate, and its figures are in place."""

import re
import tomllib
from pathlib import Path

import pytest

from tests import rules_table
from tests.benchmarks import page

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


# Slow, because it compiles forty programs. The example of every function is also a doctest.
@pytest.mark.slow
@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_every_block_is_run_or_cited() -> None:
    """Python runs in this file, bash in the gate (.ci/run). The layout matches the package."""
    assert {language for language, _ in BLOCKS} == {"python", "bash", "bibtex", "text"}
    for layout in [code for language, code in BLOCKS if language == "text"]:
        root, *parts = re.findall(r"^ *(\w+(?:/|\.py))", layout, re.MULTILINE)
        assert [part for part in parts if not (ROOT / root / part).exists()] == []
        assert len(parts) > 10


def test_commands_name_extras_and_groups_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    commands = [code for language, code in BLOCKS if language == "bash"]
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        for extras in re.findall(r"\.\[([\w,]+)\]", command):
            assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
        for group in re.findall(r"--group (\w+)", command):
            assert group in project["dependency-groups"]
    for marker in ("<!-- main command -->\n```bash", "<!-- test command -->\n```bash"):
        assert marker in README


def test_rules_are_as_the_table_says() -> None:
    assert rules_table.written(README) == README
    assert all(table in README for table in rules_table.tables())


def test_local_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_figures_are_replaced_part_by_part() -> None:
    shown = {name for _, name, _ in page.FIGURES.findall(README)}
    assert shown == {"sides", "speed", "crowds"}
    new = page.replaced(README, "speed", "2000-01-01", ["| a |", "| b |"])
    assert "<!-- figures: speed -->\n\n2000-01-01.\n\n| a |\n\n| b |\n\n<!-- end" in new
    blank = page.FIGURES.sub("", README)
    assert page.FIGURES.sub("", new) == blank
    for name in shown - {"speed"}:
        part = re.compile(f"figures: {name}.*?end of figures", re.DOTALL)
        assert part.findall(new) == part.findall(README)
        assert "| --- |" in part.findall(README)[0]
