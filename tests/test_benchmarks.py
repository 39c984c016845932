"""The side by side benchmark measures what it says, in small."""

import numpy as np
import pytest

from tests.benchmarks import sides


@pytest.mark.slow
def test_sides_agree_and_what_is_absent_is_named() -> None:
    """The OpenCV loop is installed with the tests, other peers may be."""
    found = sides.measured((2, 17, 64, 48), runs=2)
    rows = sides.described(found)
    assert len(found) == len(rows) == len(sides.sides())
    ran = [outcome for outcome in found if outcome.theirs is not None]
    assert {"get_final_preds", "gaussian_blur"} <= {outcome.side.ours for outcome in ran}
    assert max(outcome.differ for outcome in ran) < 1e-4
    for outcome, row in zip(found, rows, strict=True):
        absent = outcome.side.theirs is not None and outcome.theirs is None
        assert (row["ms"] == "not installed") == absent
        assert (outcome.ours > 0).all()
        both = outcome.our_error if outcome.theirs is not None else {}
        assert set(outcome.their_error) == set(both)
    errors = {outcome.side.ours: outcome.our_error for outcome in found}
    assert errors["decode_fit, sigma"]["no noise"] < 1e-5
    assert errors["decode_fit, sigma"]["noise .02, at an edge"] < 0.05
    assert np.isfinite([value for error in errors.values() for value in error.values()]).all()
