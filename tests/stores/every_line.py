"""Kill a run at every line of its checkpoint, and let another run go on: a script.

``python -m tests.stores.every_line SUFFIX SCENARIO FOLDER [WAYS]`` prints how many lines it was
killed at. Each victim is a process of its own that ends without another instruction, as by
``kill -9``. SCENARIO is what there is before: "new", nothing; "overwrite", old results; "restart",
these and an unfinished run of their kind. After each victim, the next run goes on in one of four
ways in turn, or in all of them.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dark_jax import Keypoints
from dark_jax._io import atomic
from dark_jax._stores import checkpoint, writers
from dark_jax._stores.blocks import Blocks
from dark_jax._stores.checkpoint import Checkpoint, Note
from tests.stores.cases import tree

KILLED = 9
BLOCKS = Blocks((2, 1, 8, 8), (2, 3), (1, 1))
# The lines that count: ours, and those of the removal of folders.
FILES = {each.__file__ for each in (checkpoint, writers, atomic, shutil)}
# How the next run goes on; the last one resumes with what the old results were made with.
WAYS = ("neither", "resume", "overwrite", "resume the old")


def job(target: Path, scores: float) -> Checkpoint:
    """A run that writes such scores."""
    about = {"dark_jax": "0", "decoder": "none", "blocks": [1, 1], "scores": scores}
    writer = writers.KINDS[target.suffix](BLOCKS, np.dtype(np.float32), False, about)
    return Checkpoint(target, writer, {"size": 1})


def run(target: Path, scores: float, **options: bool) -> None:
    """What ``decode_store`` does, without decoding."""
    mine, options = job(target, scores), {"resume": False, "overwrite": False} | options
    with mine.claimed():
        if not mine.check(**options, accept_changed_source=False):
            mine.begin(overwrite=options["overwrite"], accept_changed_source=False)
            for index in mine.todo():
                mine.commit(index, keypoints(scores), Note("", []))
        mine.finish()


def keypoints(scores: float) -> Keypoints:
    """Those of a block."""
    values = np.full((1, 1), scores, np.float32)
    arrays = {
        "coords": np.stack([values] * 2, -1),
        "scores": values,
        "status": values.astype(np.int8),
    }
    return Keypoints(**arrays)  # pyright: ignore[reportArgumentType]


def killed_at(line: int, victim: Callable[[], None]) -> bool:
    """Whether a process died at so many lines; if not, it has come to its end."""
    if pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, KILLED), status
        return status == KILLED
    left = line

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os._exit(KILLED)
        return trace

    sys.settrace(trace)
    try:
        victim()
        os._exit(0)
    finally:
        os._exit(1)


def survives(scenario: str, target: Path, line: int, way: str) -> bool:
    """Kill a run at a line, and go on in a way. Whether there was such a line."""
    folder = target.parent
    old = {} if scenario == "new" else tree(folder / "old")
    new = tree(folder / "new")

    beside = checkpoint.folder_of(target)
    for path in (target, beside):
        shutil.rmtree(path, ignore_errors=True)
    if old:
        shutil.copytree(folder / "old", target)
    if scenario == "restart":
        shutil.copytree(folder / "begun", beside)
    if not killed_at(line, lambda: run(target, 2.0, overwrite=bool(old))):
        assert tree(target) == new
        return False
    scores, options = (1.0, "resume") if way == "resume the old" else (2.0, way)
    refused: Exception | None = None
    try:
        run(target, scores, **({} if way == "neither" else {options: True}))
    except (FileExistsError, ValueError) as error:
        refused = error
    if refused is not None:
        # The old results, or the new ones, whole; or none while they are begun.
        assert tree(target) in (old, new), line
        about = beside / "about.json"
        begun = json.loads(about.read_text())["about"]["scores"] if about.exists() else None
        made = begun or (2.0 if tree(target) == new else 1.0)
        assert isinstance(refused, FileExistsError) if way == "neither" else made != scores, line
        run(target, 2.0, overwrite=True)
    elif way == "resume the old":
        assert tree(target) == tree(folder / "old"), line
        run(target, 2.0, overwrite=True)
    assert tree(target) == new, (line, way)
    assert not beside.exists(), (line, way)
    return True


def main(suffix: str, scenario: str, folder: str, ways: str = "in turn") -> None:
    """Every line, until a victim comes to its end."""
    made = Path(folder) / f"made{suffix}"
    run(made, 2.0)
    os.rename(made, Path(folder) / "new")
    run(made, 1.0)
    begun = job(made, 1.0)
    with begun.claimed():
        begun.begin(overwrite=True, accept_changed_source=False)
        begun.commit((0, 0), keypoints(1.0), Note("", []))
    os.rename(begun.folder, Path(folder) / "begun")
    os.rename(made, Path(folder) / "old")
    line = 0
    target = Path(folder) / f"out{suffix}"
    while all(
        survives(scenario, target, line, way)
        for way in (WAYS if ways == "all" else (WAYS[line % len(WAYS)],))
    ):
        line += 1
    print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
