"""Kill a run at every line of its checkpoint, and let another run continue.

``python -m tests.stores.every_line SUFFIX SCENARIO FOLDER [WAYS]`` prints the number of lines at
which a run was killed. Each victim is a separate process that stops at once, as after ``kill -9``.
SCENARIO says what exists before the run: nothing for "new", old results for "overwrite", and old
results with an unfinished run of the same parameters for "restart". After each victim, the next
run continues in one of four ways in turn, or in all of them if WAYS is "all".
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
# Lines count in the files of dark_jax that write results, and in shutil, which removes folders.
FILES = {each.__file__ for each in (checkpoint, writers, atomic, shutil)}
# How the next run continues. The last way resumes with the parameters of the old results.
WAYS = ("neither", "resume", "overwrite", "resume the old")


def job(target: Path, scores: float) -> Checkpoint:
    """The checkpoint of a run that writes these scores."""
    about = {"dark_jax": "0", "decoder": "none", "blocks": [1, 1], "scores": scores}
    writer = writers.KINDS[target.suffix](BLOCKS, np.dtype(np.float32), False, about)
    return Checkpoint(target, writer, {"size": 1})


def run(target: Path, scores: float, **options: bool) -> None:
    """Do what ``decode_store`` does, without decoding."""
    mine, options = job(target, scores), {"resume": False, "overwrite": False} | options
    with mine.claimed():
        if not mine.check(**options, accept_changed_source=False):
            mine.begin(overwrite=options["overwrite"], accept_changed_source=False)
            for index in mine.todo():
                mine.commit(index, keypoints(scores), Note("", []))
        mine.finish()


def keypoints(scores: float) -> Keypoints:
    """The keypoints of one block."""
    values = np.full((1, 1), scores, np.float32)
    arrays = {
        "coords": np.stack([values] * 2, -1),
        "scores": values,
        "status": values.astype(np.int8),
    }
    return Keypoints(**arrays)  # pyright: ignore[reportArgumentType]


def killed_at(line: int, victim: Callable[[], None]) -> bool:
    """Run ``victim`` in a process that dies at this line; return False if it ran to its end."""
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
    """Kill a run at a line and continue in this way; return False if the run has fewer lines."""
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
        # The target holds complete results, old or new. In the scenario "new", old means none.
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
    """Kill a run at each line, until a victim reaches its end; print the number of lines."""
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
