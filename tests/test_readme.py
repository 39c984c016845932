"""The README: its code runs, its commands are the ones the gate runs."""

import re
import tomllib
from pathlib import Path

import pytest

from tests import rules_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


# Slow: forty programs, and every function's own example runs as a doctest.
@pytest.mark.slow
@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_python_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


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
    assert rules_table.table() in README


def test_local_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
