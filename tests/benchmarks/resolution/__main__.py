"""The command line that the package describes."""

import argparse
from pathlib import Path

from tests.benchmarks.resolution import experiment, pictures
from tests.benchmarks.resolution.frames import made, read
from tests.benchmarks.tables import table
from tests.benchmarks.timing import RUNS, machine

STEPS = 700


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.resolution")
    parser.add_argument("--data", type=Path, help="folder with labels.csv and crops/")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps a network")
    parser.add_argument("--pictures", type=Path, help="folder to write errors.png, frames.png to")
    options = parser.parse_args()
    frames = made() if options.data is None else read(options.data)
    print(f"{frames.source}; keypoints: {', '.join(frames.joints)}")
    print(f"{machine()}\n", flush=True)
    outcomes = list(experiment.run(frames, steps=options.steps))
    print(table(experiment.training_rows(outcomes)), end="\n\n")
    print("Two folds; errors in pixels of the frame, ± standard error over frames.\n")
    print(table(experiment.rows(outcomes)), end="\n\n", flush=True)
    print("What decoding adds to the jitted step of network, decoder and way back (medians).\n")
    print(table(experiment.cost_rows(outcomes, frames, runs=RUNS)))
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name, figure in (
            ("errors.png", pictures.errors(outcomes, frames.source)),
            ("frames.png", pictures.predictions(outcomes, frames)),
        ):
            (options.pictures / name).write_bytes(pictures.png(figure))


if __name__ == "__main__":
    main()
