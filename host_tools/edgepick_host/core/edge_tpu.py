"""What Coral's ``edgetpu_compiler`` said about a model: its log, read into values. Pure.

The compiler is closed and frozen at 16.0; the forms of its log are those that users paste into its issues
(github.com/google-coral/edgetpu 60, 324, 427, 512, 572, 671, 903). What a log does not say stays unknown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAPPED = "Mapped to Edge TPU"
CUSTOM_OPERATOR = "edgetpu-custom-op"
"""What the compiler puts in the place of the operators that it mapped; only an Edge TPU runs it."""

SHOWN_LINES = 10
MOST_LINES = 500
"""Of a table; every kind of operator with every status is far fewer."""

MOST_CHARACTERS = 200
"""Of a cell or a reason."""

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER = r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMG]i)?B\b"
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_ON_CHIP = re.compile(rf"^On-chip memory used for caching model parameters:\s*{_NUMBER}", re.MULTILINE)
_REMAINING = re.compile(rf"^On-chip memory remaining for caching model parameters:\s*{_NUMBER}", re.MULTILINE)
_OFF_CHIP = re.compile(rf"^Off-chip memory used for streaming uncached model parameters:\s*{_NUMBER}", re.MULTILINE)
_SUBGRAPHS = re.compile(r"^Number of Edge TPU subgraphs:\s*(\d{1,9})\b", re.MULTILINE)
_HEADER = re.compile(r"^Operator\s+Count\s+Status\s*$")
_ROW = re.compile(r"^(\S+)\s+(\d{1,9})\s+(\S.*?)\s*$")
_FAILURES = (
    re.compile(r"^Compilation failed: (\S.*?)\s*$", re.MULTILINE),
    re.compile(r"^(?:ERROR|Error): (\S.*?)\s*$", re.MULTILINE),
    re.compile(r"^(Internal compiler error.*?|Invalid model.*?|Model not quantized.*?)\s*$", re.MULTILINE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorStatus:
    """One line of the compiler's table.

    Attributes:
        name: Kind of operator, ``CONV_2D``.
        count: How many of them the line is about.
        status: The compiler's own words: :data:`MAPPED`, or why they stay on the CPU.
    """

    name: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """They run on the Edge TPU."""
        return self.status == MAPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTpuFacts:
    """What is known about a model on an Edge TPU.

    Attributes:
        profiles: Those with an Edge TPU that it is offered to.
        not_compiled: Why the file is not a compiled one; empty if it is.
        compiler: Version of the compiler that looked at it; empty if none did.
        compiled_from: SHA-256 of the file that was compiled, on which quality was measured; empty if this is that file.
        operators: The compiler's table, in its order.
        on_chip_bytes: Parameters that stay in the Edge TPU's own memory.
        on_chip_left_bytes: What is left of that memory.
        off_chip_bytes: Parameters that travel to it at every inference.
        subgraphs: Parts of the graph that it runs.
    """

    profiles: tuple[str, ...] = ()
    not_compiled: str = ""
    compiler: str = ""
    compiled_from: str = ""
    operators: tuple[OperatorStatus, ...] = ()
    on_chip_bytes: int | None = None
    on_chip_left_bytes: int | None = None
    off_chip_bytes: int | None = None
    subgraphs: int | None = None

    @property
    def mapped(self) -> int:
        """Operators that run on the Edge TPU."""
        return sum(line.count for line in self.operators if line.mapped)

    @property
    def total(self) -> int:
        """Operators that the compiler listed."""
        return sum(line.count for line in self.operators)

    @property
    def short(self) -> str:
        """What a cell of a table says."""
        if self.not_compiled:
            return "not compiled"
        streamed = f", {self.off_chip_bytes:,} B streamed" if self.off_chip_bytes else ""
        return f"{self.mapped} of {self.total} operators{streamed}"

    @property
    def text(self) -> str:
        """All of it, for a person."""
        said = (
            [f"not compiled for the Edge TPU: {self.not_compiled}"]
            if self.not_compiled
            else ["compiled for the Edge TPU"]
        )
        said += [f"{self.mapped} of {self.total} operators on the Edge TPU"] if self.operators else []
        return "; ".join([*said, *self._left_out(), *self._memory()])

    def _left_out(self) -> Iterator[str]:
        left = [line for line in self.operators if not line.mapped]
        for line in left[:SHOWN_LINES]:
            yield f"{line.name} ({line.count}) on the CPU: {line.status}"
        if len(left) > SHOWN_LINES:
            yield f"{sum(line.count for line in left[SHOWN_LINES:])} more on the CPU"

    def _memory(self) -> Iterator[str]:
        if self.on_chip_bytes is not None:
            left = "" if self.on_chip_left_bytes is None else f", {self.on_chip_left_bytes:,} left"
            yield f"{self.on_chip_bytes:,} bytes of parameters on the chip{left}"
        if self.off_chip_bytes:
            yield f"{self.off_chip_bytes:,} bytes of parameters streamed at every inference"


def read_log(log: str) -> EdgeTpuFacts:
    """Return what the compiler's output, its log file or both together say; never raises, whatever the text."""
    version = _VERSION.search(log)
    subgraphs = _SUBGRAPHS.search(log)
    return EdgeTpuFacts(
        compiler=version[1][:MOST_CHARACTERS] if version else "",
        operators=_table(log),
        on_chip_bytes=_bytes(_ON_CHIP, log),
        on_chip_left_bytes=_bytes(_REMAINING, log),
        off_chip_bytes=_bytes(_OFF_CHIP, log),
        subgraphs=int(subgraphs[1]) if subgraphs else None,
    )


def failure_in(log: str) -> str:
    """Return the most telling line of a log of a compilation that failed; empty if it has none."""
    return next((found[1][:MOST_CHARACTERS] for pattern in _FAILURES if (found := pattern.search(log))), "")


def _table(log: str) -> tuple[OperatorStatus, ...]:
    """Return the lines of the first table; it ends at the first line that is neither empty nor a row of it."""
    lines = iter(log.splitlines())
    if not any(_HEADER.match(line) for line in lines):
        return ()
    rows = []
    for line in lines:
        row = _ROW.match(line)
        if row:
            name, status = row[1][:MOST_CHARACTERS], row[3][:MOST_CHARACTERS]
            rows.append(OperatorStatus(name=name, count=int(row[2]), status=status))
        elif line.strip():
            break
    return tuple(rows[:MOST_LINES])


def _bytes(pattern: re.Pattern[str], log: str) -> int | None:
    found = pattern.search(log)
    return round(float(found[1]) * _UNITS[f"{found[2] or ''}B"]) if found else None
