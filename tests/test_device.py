"""The device command compares and times what it claims, and reports what is wrong."""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.benchmarks import agreement, decoders, device
from tests.contracts.decoders import BATCH
from tests.support import synthetic
from tests.support.batches import in_batches

SHAPE = (16, 4, 20, 18)
Decoder = Callable[[np.ndarray], agreement.Answers]


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return agreement.maps(SHAPE)


@pytest.fixture(scope="module")
def decode() -> Decoder:
    """Decode in batches of ``BATCH``, which share one program, and make up the error bars."""

    def run(maps: np.ndarray) -> agreement.Answers:
        found = in_batches(dark_jax.decode, maps, size=BATCH[0])
        known = (found.status == Status.REFINED)[..., None, None]
        bars = np.where(known, np.diag([0.1, 0.2]), np.inf)
        return agreement.answers(dataclasses.replace(found, covariance=bars.astype("f4")))

    return run


class TestAgreement:
    """Every kind of altered answer is found."""

    def fault(self, decode: Decoder, maps: np.ndarray, **doctored: Any) -> str:
        expected = decode(maps)
        found = {**expected, **{name: change(expected[name]) for name, change in doctored.items()}}
        again = [decode(each) for each in agreement.shaken(maps)]
        return agreement.compared(found, expected, again)["fault"]

    def test_maps_are_of_every_kind(self, maps: np.ndarray) -> None:
        assert maps.shape == SHAPE
        assert maps.dtype == np.float32
        assert np.isnan(maps).any()
        assert (maps.max((-2, -1)) > 200).any()
        assert (maps.max((-2, -1)) <= 0).any()

    def test_the_same_answers_agree(self, decode: Decoder, maps: np.ndarray) -> None:
        expected = decode(maps)
        again = [decode(each) for each in agreement.shaken(maps)]
        row = agreement.compared(expected, expected, again)
        assert (row["fault"], row["scores differ"], row["status differ"]) == ("", 0, 0)
        assert row["coords"] == row["covariance"] == 0
        assert row["counted"] > 0.6
        assert tuple(row) == agreement.COLUMNS

    def test_digits_of_bfloat16_and_tf32_are_too_few(
        self, decode: Decoder, maps: np.ndarray
    ) -> None:
        """Without Precision.HIGHEST a product rounds the values under the logarithm in this way."""
        bits = maps.view(np.int32)
        for digits in (16, 13):
            rounded = (bits + (1 << (digits - 1)) & -(1 << digits)).view(np.float32)
            found = decode(np.where(np.isfinite(maps), rounded, maps))
            row = agreement.compared(found, decode(maps), [decode(maps)])
            assert "coords differ" in row["fault"]

    def test_one_last_digit_of_a_score(self, decode: Decoder, maps: np.ndarray) -> None:
        def change(scores: np.ndarray) -> np.ndarray:
            changed = scores.copy()
            changed[0, 0] = np.nextafter(changed[0, 0], np.float32(9))
            return changed

        assert self.fault(decode, maps, scores=change) == "1 scores differ"

    def test_a_hundredth_of_a_pixel_and_a_nan(self, decode: Decoder, maps: np.ndarray) -> None:
        for wrong in (0.01, np.nan):
            fault = self.fault(
                decode, maps, coords=lambda coords, by=wrong: coords + np.float32(by)
            )
            assert fault.startswith("coords differ by")

    def test_a_status_and_an_error_bar(self, decode: Decoder, maps: np.ndarray) -> None:
        fault = self.fault(
            decode, maps, status=lambda status: 1 - status, covariance=lambda known: 1.1 * known
        )
        assert "status differ" in fault
        assert "covariance differ by 0.1" in fault

    def test_another_type_or_shape(self, decode: Decoder, maps: np.ndarray) -> None:
        assert "int32" in self.fault(decode, maps, status=lambda s: s.astype(np.int32))
        assert "(32, 4)" in self.fault(decode, maps, scores=lambda s: np.concatenate([s, s]))

    def test_an_error_bar_that_one_has_and_the_other_has_not(
        self, decode: Decoder, maps: np.ndarray
    ) -> None:
        expected = decode(maps)
        less = {name: value for name, value in expected.items() if name != "covariance"}
        for found, known in ((less, expected), (expected, less)):
            assert "in place of" in agreement.compared(found, known, [known])["fault"]

    def test_the_first_maximum_stays(self, decode: Decoder, maps: np.ndarray) -> None:
        """``shaken`` keeps the first maximum of a map, so that tied maps are judged too."""
        flat = maps.reshape(64, -1)
        for each in agreement.shaken(maps):
            moved = each.reshape(64, -1)
            np.testing.assert_array_equal(moved.argmax(1), flat.argmax(1))
            np.testing.assert_array_equal(moved.max(1), flat.max(1))
            np.testing.assert_array_equal(np.isfinite(moved), np.isfinite(flat))
            np.testing.assert_allclose(moved, flat, rtol=2e-6, atol=1e-44)
            assert (moved != flat).mean() > 0.5
        tied = np.broadcast_to(synthetic.degenerate(SHAPE[2:])["tie"], SHAPE)
        fault = self.fault(decode, tied, coords=lambda coords: coords + 5)
        assert fault.startswith("coords differ by 5")

    def test_rounding_alone_is_not_judged(self) -> None:
        """Answers that the CPU does not repeat are left out. If too few remain, that is a fault."""
        expected = {"coords": np.zeros((10, 2), np.float32)}
        far = {"coords": np.ones((10, 2), np.float32)}
        row = agreement.compared(far, expected, [far])
        assert row["coords"] == row["counted"] == 0
        assert row["fault"] == "coords: only 0% can be judged"

    def test_what_is_tiny_is_nothing(self) -> None:
        small = np.full((1, 3, 3), 1e-40, np.float32)
        assert agreement.difference("values", small, 0 * small) < 1e-9
        assert agreement.difference("values", small + 1, small) > 1e20


class TestDevice:
    """The device is another virtual device of the CPU. Calls are timed without a queue."""

    @pytest.fixture
    def another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "device", lambda: jax.devices()[1])

    @pytest.mark.usefixtures("another")
    def test_answers_of_another_device(self) -> None:
        names = ("gradient of soft argmax window", "get_max_preds")
        rows = device.agreement_rows(names, shape=SHAPE)
        assert [(row["function"], row["maps"]) for row in rows] == [
            *((name, "float32") for name in names),
            ("get_max_preds", "bfloat16"),
        ]
        assert not any(row["fault"] for row in rows)
        assert all(row["counted"] > 0.6 for row in rows)
        programs = [device.program(names[0], SHAPE, "float32", jax.devices()[n]) for n in (0, 1)]
        for n, program in enumerate(programs):
            [where] = program.input_shardings[0][0].device_set
            assert where == jax.devices()[n]

    def test_times_are_of_the_shapes_that_are_asked_for(self) -> None:
        name = "get_max_preds"
        rows = device.time_rows((name,), shapes=(SHAPE,), dtypes=("float32",), others=())
        assert [row["function"] for row in rows] == ["jnp.max", name]
        for row in rows:
            assert row["maps"] == "16x4x20x18 float32"
            assert row["us"] > 0
            assert row["alone, us"] > 0
            assert row["queue"] is row["/ copy to host"] is row["fault"] is None
        assert rows[0]["/ max"] == rows[0]["alone / max"] == 1
        assert 0 < rows[1]["temporaries / maps"] < 2

    def test_work_for_a_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "SIDE", 64)
        work = device._work(jax.devices()[2])
        np.testing.assert_allclose(work, np.full((64, 64), 1 / 64), rtol=1e-6)
        assert device._copied(jnp.ones(SHAPE)) > 0

    @pytest.mark.parametrize("ready", [False, True])
    def test_calls_behind_other_work(self, ready: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """The time of a call is what one more call adds, or its share if calls do not queue."""
        accelerator = types.SimpleNamespace(platform="gpu")
        work = types.SimpleNamespace(is_ready=lambda: ready, block_until_ready=lambda: None)
        monkeypatch.setattr(device, "device", lambda: accelerator)
        monkeypatch.setattr(device, "_work", lambda where: work)
        clock = [0.0]

        def wait(results: list[Any]) -> None:
            clock[0] += 0.02 + 0.005 * len(results)

        monkeypatch.setattr(jax, "block_until_ready", wait)
        monkeypatch.setattr(device, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
        seconds, full = device._queued(lambda: None, alone=0.001)
        assert seconds == pytest.approx(0.005 + 0.02 / device.QUEUE if ready else 0.005)
        assert full is (not ready)

    def test_what_there_is_no_time_for_is_named(self) -> None:
        [row] = device.agreement_rows(("decode",), dtypes=("float32",), seconds=0)
        assert row["fault"] == "not run: the time was over"
        rows = device.time_rows(("decode",), shapes=(SHAPE,), dtypes=("float32",), seconds=0)
        assert len(rows) == 3 + len(decoders.PROGRAMS) - len(device.TIMED)
        assert {row["fault"] for row in rows} == {"not run: the time was over"}

    def test_what_fails_is_named_and_the_rest_goes_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(maps: jax.Array) -> jax.Array:
            raise RuntimeError("no such instruction\nand more")

        monkeypatch.setitem(device.FUNCTIONS, "broken", broken)
        rows = device.agreement_rows(("broken", "get_max_preds"), shape=SHAPE, dtypes=("float32",))
        assert [row["fault"] for row in rows] == ["RuntimeError: no such instruction", ""]
        timed = device.time_rows(("broken",), shapes=(SHAPE,), dtypes=("float32",), others=())
        assert [row["fault"] for row in timed] == [None, "RuntimeError: no such instruction"]

    def test_what_fails_as_it_runs_costs_no_other_row(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Program:
            def __init__(self, name: str, *_: Any) -> None:
                self.name = name

            def __call__(self, maps: jax.Array) -> jax.Array:
                if self.name == "broken":
                    raise MemoryError("out of it")
                return maps

            def memory_analysis(self) -> Any:
                return types.SimpleNamespace(temp_size_in_bytes=0)

        monkeypatch.setattr(device, "program", Program)
        options: dict[str, Any] = {"shapes": (SHAPE,), "dtypes": ("float32",), "others": ()}
        rows = device.time_rows(("broken", "decode"), **options)
        assert [row["fault"] for row in rows] == [None, "MemoryError: out of it", None]

    def test_an_accelerator_that_is_not_found_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Figures of the CPU in its place would waste the time of a borrowed accelerator."""
        monkeypatch.setattr(device, "installed", lambda names: [f"{names[0]} 1.0"])
        assert device.device().platform == "cpu"  # as the tests configure JAX
        monkeypatch.setattr(jax, "config", types.SimpleNamespace(jax_platforms=None))
        with pytest.raises(RuntimeError, match=r"plugin 1.0 found no accelerator: JAX_PLATFORMS"):
            device.device()

    def test_a_cpu_left_out_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(*_: str) -> list[Any]:
            raise RuntimeError("Unknown backend cpu")

        monkeypatch.setattr(jax, "devices", absent)
        monkeypatch.setenv("JAX_PLATFORMS", "cuda")
        with pytest.raises(RuntimeError, match="JAX_PLATFORMS=cuda,cpu: got 'cuda'"):
            device.cpu()

    def test_stamp_and_memory(self) -> None:
        assert device.stamp().startswith("NO ACCELERATOR")
        assert f"jax {jax.__version__}" in device.stamp()
        [row] = device.memory_rows()
        assert row["memory of"] == "cpu"
        assert "fault" not in row

    def test_memory_that_cannot_be_asked_for_is_a_fault(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = types.SimpleNamespace(device_kind="gone")  # without memory_stats
        monkeypatch.setattr(device, "device", lambda: gone)
        [row] = device.memory_rows()
        assert row["fault"].startswith("AttributeError")
