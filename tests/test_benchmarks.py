"""The benchmarks measure what they say, in small, and tell of what is wrong."""

import inspect
import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests import programs, synthetic
from tests.benchmarks import __main__ as command
from tests.benchmarks import agreement, decoders, device, hlo, kernels, page, sides, timing
from tests.benchmarks.tables import table

SHAPE = (8, 8, 20, 18)
Decoder = Callable[[np.ndarray], agreement.Answers]


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


def test_every_decoder_and_rule_is_measured() -> None:
    """A new public function of maps, or a new rule, is missed here."""
    source = inspect.getsource(decoders) + inspect.getsource(programs)
    names = [n for n in dark_jax.__all__ if n.startswith(("decode", "get_", "estimate"))]
    absent = {n for n in names if not re.search(rf"dark_jax\.{n}\b", source)}
    assert absent == {"decode_store"}
    rules = {f"rules.{rule.name}" for rule in dark_jax.rules.PUBLISHED if 2 in rule.dims}
    assert rules <= set(decoders.PROGRAMS)
    assert set(device.TIMED) | set(device.DIFFERENTIATED) <= set(decoders.PROGRAMS)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return agreement.maps(SHAPE)


@pytest.fixture(scope="module")
def decode() -> Decoder:
    run = jax.jit(lambda maps: dark_jax.decode(maps, kernel_size=3, covariance=True))
    return lambda maps: agreement.answers(run(maps))


class TestAgreement:
    """Answers that are doctored are found out, each kind of them."""

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
        """What a product without Precision.HIGHEST leaves of the values under the logarithm."""
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
        assert "(16, 8)" in self.fault(decode, maps, scores=lambda s: np.concatenate([s, s]))

    def test_an_error_bar_that_one_has_and_the_other_has_not(
        self, decode: Decoder, maps: np.ndarray
    ) -> None:
        expected = decode(maps)
        less = {name: value for name, value in expected.items() if name != "covariance"}
        for found, known in ((less, expected), (expected, less)):
            assert "in place of" in agreement.compared(found, known, [known])["fault"]

    def test_the_first_maximum_stays(self, decode: Decoder, maps: np.ndarray) -> None:
        """So that tied maps are judged too."""
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
        """An answer that the CPU does not give again is left out, and too few are a fault."""
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
    """On the CPU: on another of its virtual devices, and timed without a queue."""

    @pytest.fixture
    def another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "device", lambda: jax.devices()[1])

    @pytest.mark.usefixtures("another")
    def test_answers_of_another_device(self) -> None:
        names = ("soft argmax window", "gradient of soft argmax window", "get_max_preds")
        rows = device.agreement_rows(names, shape=SHAPE)
        assert [(row["function"], row["maps"]) for row in rows] == [
            *((name, "float32") for name in names),
            ("soft argmax window", "bfloat16"),
            ("get_max_preds", "bfloat16"),
        ]
        assert not any(row["fault"] for row in rows)
        assert all(row["counted"] > 0.6 for row in rows)
        programs = [device.program(names[0], SHAPE, "float32", jax.devices()[n]) for n in (0, 1)]
        for n, program in enumerate(programs):
            [where] = program.input_shardings[0][0].device_set
            assert where == jax.devices()[n]

    def test_times_are_of_the_shapes_that_are_asked_for(self) -> None:
        rows = device.time_rows(("decode",), shapes=(SHAPE,), dtypes=("float32",), others=())
        assert [row["function"] for row in rows] == ["jnp.max", "decode"]
        for row in rows:
            assert row["maps"] == "8x8x20x18 float32"
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
        """The way of an accelerator: a call is what more of them take longer."""
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
        assert seconds == pytest.approx(0.005)
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
        """The CPU's figures in its place would cost the time of a machine that is lent."""
        monkeypatch.setattr(device, "versions", lambda names: [f"{names[0]} 1.0"])
        assert device.device().platform == "cpu"  # JAX was told so, here
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


HLO = """HloModule jit_f, is_scheduled=true

%fused_gather (param_0.1: f32[4,8], param_1: s32[4]) -> f32[4] {
  %param_0.1 = f32[4,8]{1,0} parameter(0)
  %param_1 = s32[4]{0} parameter(1)
  %convert.2 = bf16[4,8]{1,0} convert(%param_0.1)
  ROOT %gather.1 = f32[4]{0} gather(%convert.2, %param_1), offset_dims={}, slice_sizes={1,1}
}

%fused_reduce (param_0: f32[4,8]) -> (f32[4], f32[4]) {
  %param_0 = f32[4,8]{1,0} parameter(0)
  %constant.1 = f32[] constant(0)
  %reduce.1 = f32[4]{0} reduce(%param_0, %constant.1), dimensions={1}, to_apply=%add
  ROOT %tuple.9 = (f32[4]{0}, f32[4]{0}) tuple(%reduce.1, %reduce.1)
}

%product (param_0.7: f32[4,8]) -> f32[4,4] {
  %param_0.7 = f32[4,8]{1,0} parameter(0)
  ROOT %dot.1 = f32[4,4]{1,0} dot(%param_0.7, %param_0.7), operand_precision={highest,default}
}

ENTRY %main.21 (maps.1: f32[4,8]) -> (f32[4], f32[4]) {
  %maps.1 = f32[4,8]{1,0} parameter(0), metadata={op_name="maps (all)"}
  %bitcast.3 = f32[4,8]{1,0} bitcast(%maps.1)
  %sums = (f32[4]{0}, /*index=1*/f32[4]{0}) fusion(%bitcast.3), kind=kInput, calls=%fused_reduce
  %part = f32[4]{0} get-tuple-element(%sums), index=0
  %picked = f32[4]{0} fusion(%maps.1, %part), kind=kLoop, calls=%fused_gather
  %squares = f32[4,4]{1,0} fusion(%maps.1), kind=kCustom, calls=%product
  %called = f32[4]{0} custom-call(%part), custom_call_target="__cublas$gemm"
  ROOT %tuple.2 = (f32[4]{0}, f32[4]{0}) tuple(%picked, %called)
}
"""


class TestKernels:
    def test_a_program_is_read_as_it_is_written(self) -> None:
        program = hlo.parsed(HLO)
        assert [each.name for each in program.kernels()] == ["sums", "picked", "squares", "called"]
        assert [each.name for each in program.readers()] == ["sums", "squares"]
        assert program.custom_calls() == ["__cublas$gemm"]
        assert program.precisions() == ["default"]

    def test_what_is_no_program_is_refused(self) -> None:
        with pytest.raises(ValueError, match="must be that of a compiled program, got 'nothing'"):
            hlo.parsed("nothing")

    def test_the_text_is_that_of_this_jax(self) -> None:
        """Of a CPU program: one sum over the maps, one product."""
        compiled = jax.jit(lambda x: (x.sum(), x @ x)).lower(jnp.ones((64, 64))).compile()
        program = hlo.parsed(compiled.as_text() or "")
        assert program.kernels()
        assert len(program.readers()) >= 2

    def test_absent_compiler_names_its_group(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(*_: Any, **__: Any) -> None:
            raise NotImplementedError("topology not implemented for cuda")

        monkeypatch.setattr(kernels.topologies, "get_topology_desc", absent)
        kernels.h100.cache_clear()
        with pytest.raises(SystemExit, match=r"kernels: .* pip install --group kernels"):
            command.main(["kernels"])

    @pytest.mark.slow
    @pytest.mark.skipif(
        timing.versions(["jax-cuda12-plugin"])[0].endswith("absent"), reason=kernels.ABSENT
    )
    def test_decode_reads_the_maps_once(self) -> None:
        """Thirteen kernels on an H100, by XLA's own compiler: fewer are welcome, more are not."""
        kernels.h100.cache_clear()
        program = kernels.compiled(dark_jax.decode)
        found = hlo.parsed(program.as_text())
        assert len(found.kernels()) <= 13
        assert len(found.readers()) == 1
        assert found.custom_calls() == []
        assert set(found.precisions()) == {"highest"}
        [largest] = hlo.parsed(kernels.compiled(lambda m: m.max((-2, -1))).as_text()).kernels()
        assert largest.op == "fusion"


def test_the_page_has_a_place_for_every_figure() -> None:
    text = command.PAGE.read_text()
    slots = [name for _, name, _ in page.FIGURES.findall(text)]
    assert {"kernels", "device, cpu"} <= set(slots)
    assert len(slots) == len(set(slots))
    assert page.DEVICES in text
    for name in command.PARTS:
        assert f"`{name}`" in text
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", text):
        assert (command.PAGE.parent / target).exists(), target


def test_core_alone_is_needed() -> None:
    """The device command imports nothing that a machine with JAX, NumPy and chex may lack."""
    code = (
        "import sys, tests.benchmarks.__main__\n"
        "extra = {'cv2', 'scipy', 'matplotlib', 'hypothesis', 'pytest', 'flax', 'torch', 'zarr'}\n"
        "assert not extra & set(sys.modules), extra & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=command.ROOT)


class TestCommand:
    @pytest.fixture
    def rows(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"function": "decode", "us": 12.345, "fault": ""}]
        part = command.Part({"Answers": lambda: rows}, command.PAGE, lambda: "here", device.slot)
        monkeypatch.setitem(command.PARTS, "device", part)
        return rows

    def test_figures_go_into_a_page_and_a_file(
        self, rows: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        """A new page begins as the part's own; what is in the others' places stays."""
        file, copy = tmp_path / "device.json", tmp_path / "page.md"
        assert command.main(["device", "--json", str(file), "--write", str(copy)]) == 0
        found = json.loads(file.read_text())["device"]
        assert found["stamp"].endswith("; here")
        assert found["tables"] == {"Answers": rows}
        before, after = command.PAGE.read_text(), copy.read_text()
        assert "| decode | 12.3 |  |" in after
        outside = [page.FIGURES.sub("", text).split() for text in (before, after)]
        assert outside[0] == outside[1]
        assert after.count("<!-- figures: device, cpu -->") == 1
        for name in {name for _, name, _ in page.FIGURES.findall(before)} - {"device, cpu"}:
            assert _slot(after, name) == _slot(before, name)

    def test_a_page_without_the_place_gets_it(
        self, rows: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        mine = tmp_path / "mine.md"
        mine.write_text("# Mine\n")
        assert command.main(["device", "--write", str(mine)]) == 0
        assert mine.read_text().startswith("# Mine\n<!-- figures: device, cpu -->\n")
        assert "| decode | 12.3 |  |" in mine.read_text()

    def test_a_table_is_kept_before_the_next_is_begun(
        self, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost() -> list[dict[str, Any]]:
            raise RuntimeError("the device is gone")

        monkeypatch.setitem(command.PARTS["device"].tables, "Time", lost)
        file = tmp_path / "device.json"
        with pytest.raises(RuntimeError, match="the device is gone"):
            command.main(["device", "--json", str(file)])
        assert json.loads(file.read_text())["device"]["tables"] == {"Answers": rows}

    def test_a_fault_is_the_exit_status(
        self, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows.append({"function": "fit", "us": float("inf"), "fault": "coords differ by 1"})
        assert command.main(["device", "--json", str(tmp_path / "device.json")]) == 1
        assert "fit, inf, coords differ by 1" in capsys.readouterr().err
        found = json.loads((tmp_path / "device.json").read_text())
        assert found["device"]["tables"]["Answers"][1]["us"] == "inf"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["speeds"], "part must be one of sides, .* got speeds"),
            (["--write", "device"], "--write must end in .md, got 'device'"),
            (["--json", "device"], "--json must end in .json, got 'device'"),
            (["device", "--json", "absent/device.json"], "there is no folder .*absent"),
        ],
    )
    def test_wrong_arguments_are_told_before_anything_runs(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert re.search(message, capsys.readouterr().err)


def _slot(text: str, slot: str) -> str:
    [found] = [match[0] for match in page.FIGURES.finditer(text) if match[2] == slot]
    return found


def test_numbers_have_three_digits() -> None:
    row = {"a": 1234.5, "b": 0.012345, "c": 7, "d": None, "e": float("inf")}
    assert table([row, {"a": "not | told"}]).splitlines()[2:] == [
        "| 1234 | 0.0123 | 7 |  | inf |",
        r"| not \| told |  |  |  |  |",
    ]
