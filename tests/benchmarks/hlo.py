"""Read from XLA's text what a compiled program consists of."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Instructions that are not work for a device.
FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element"}
# Instructions that pass on every value of their operand. Inside a kernel they do not cost a read.
PASSING = {"bitcast", "convert", "copy", "reshape", "transpose"}
# Instructions that read only some values of their operand.
PICKING = {"gather", "dynamic-slice", "slice"}

_NAME = r"%?([\w.\-]+)"
_HEADER = re.compile(rf"(ENTRY )?{_NAME} .*\{{$")
_INSTRUCTION = re.compile(rf"\s+(ROOT )?{_NAME} = (.*)")
_OP = re.compile(r" ([a-z][\w\-]*)\(")


@dataclass(frozen=True)
class Instruction:
    """One line. ``arguments`` is the text in its parentheses, ``attributes`` the text after it."""

    name: str
    op: str
    arguments: str
    attributes: str
    root: bool

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.arguments)

    def attribute(self, pattern: str) -> str | None:
        found = re.search(pattern, self.attributes)
        return found and found[1]


@dataclass
class Program:
    """The instructions of each computation; ``entry`` names the one that is run."""

    computations: dict[str, list[Instruction]] = field(default_factory=dict)
    entry: str = ""

    def kernels(self) -> list[Instruction]:
        """The kernels that the entry computation launches. A branch or a loop counts as one."""
        return [each for each in self.computations[self.entry] if each.op not in FREE]

    def readers(self) -> list[Instruction]:
        """The kernels that read all values of the first argument.

        Kernels inside a branch or a loop are not among them.
        """
        return list(self._readers(self.entry, "0"))

    def custom_calls(self) -> list[str]:
        """The names of the functions that XLA calls instead of compiling code for them."""
        return [
            each.attribute(r'custom_call_target="([^"]+)"') or "?"
            for each in self._all("custom-call")
        ]

    def precisions(self) -> list[str]:
        """The lower of the two precisions of every product."""
        found = []
        for each in (*self._all("dot"), *self._all("convolution")):
            both = (each.attribute(r"operand_precision=\{([\w,]+)\}") or "default").split(",")
            found.append(next(one for one in ("default", "high", "highest") if one in both))
        return found

    def _all(self, op: str) -> Iterator[Instruction]:
        return (each for lines in self.computations.values() for each in lines if each.op == op)

    def _readers(self, computation: str, parameter: str) -> Iterator[Instruction]:
        """The instructions that read all values of a parameter of a computation."""
        passing = {"bitcast"} if computation == self.entry else PASSING
        same: set[str] = set()
        for each in self.computations[computation]:
            uses = [n for n, operand in enumerate(each.operands) if operand in same]
            if each.op == "parameter":
                uses = [0] if each.arguments == parameter else []
            if not uses or each.op in PICKING or each.op == "tuple":
                continue
            calls = each.attribute(rf"\bcalls={_NAME}")
            if each.op == "parameter" or (each.op in passing and not each.root):
                same.add(each.name)
            elif calls is None or any(any(self._readers(calls, str(n))) for n in uses):
                yield each


def parsed(text: str) -> Program:
    """The program that ``compiled.as_text()`` describes."""
    program = Program()
    lines: list[Instruction] = []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = program.computations[header[2]] = []
            program.entry = header[2] if header[1] else program.entry
        elif (found := _INSTRUCTION.match(line)) and (op := _OP.search(found[3])):
            arguments, attributes = _split(found[3][op.end() :])
            lines.append(Instruction(found[2], op[1], arguments, attributes, bool(found[1])))
    if not program.entry:
        raise ValueError(f"text must be that of a compiled program, got {text[:80]!r}")
    return program


def _split(text: str) -> tuple[str, str]:
    """The text before the parenthesis that closes a call, and the text after it."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return text[:at], text[at + 1 :]
    return text, ""
