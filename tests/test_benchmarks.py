"""The benchmarks measure what they claim, on small inputs, and report what is wrong."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.benchmarks import __main__ as command
from tests.benchmarks import decoders, device, hlo, kernels, page, sides, timing
from tests.benchmarks.tables import table
from tests.contracts import decoders as programs


@pytest.mark.slow
def test_sides_agree_and_what_is_absent_is_named() -> None:
    """The OpenCV loop is installed with the tests. Other peers may be installed."""
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
    """This test fails if a new public function of maps, or a new rule, is not measured."""
    source = inspect.getsource(decoders) + inspect.getsource(programs)
    names = [n for n in dark_jax.__all__ if n.startswith(("decode", "get_", "estimate"))]
    absent = {n for n in names if not re.search(rf"dark_jax\.{n}\b", source)}
    assert absent == {"decode_store"}
    rules = {f"rules.{rule.name}" for rule in dark_jax.rules.PUBLISHED if 2 in rule.dims}
    assert rules <= set(decoders.PROGRAMS)
    assert set(device.TIMED) | set(device.DIFFERENTIATED) <= set(decoders.PROGRAMS)


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
        """The CPU program has one sum over the maps and one product."""
        compiled = jax.jit(lambda x: (x.sum(), x @ x)).lower(jnp.ones((64, 64))).compile()
        program = hlo.parsed(compiled.as_text() or "")
        assert program.kernels()
        assert len(program.readers()) >= 2

    def test_absent_compiler_names_its_group(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(*_: Any, **__: Any) -> None:
            # JAX raises this if no plugin brings the compiler.
            raise NotImplementedError("topology not implemented for cuda")

        monkeypatch.setattr(kernels.topologies, "get_topology_desc", absent)
        kernels.h100.cache_clear()
        with pytest.raises(SystemExit, match=r"kernels: .* pip install --group kernels"):
            command.main(["kernels"])

    @pytest.mark.slow
    @pytest.mark.skipif(not timing.installed(["jax-cuda12-plugin"]), reason=kernels.ABSENT)
    def test_decode_reads_the_maps_once(self) -> None:
        """XLA's own compiler makes 13 kernels for an H100. Fewer are welcome, more are not."""
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
    """The device command works if only JAX, NumPy and chex are installed."""
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
        """A new page starts as a copy of the part's page. The figures of other parts stay."""
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
