"""A real terminal of 80 x 24 for the commands, and what a VT100 shows of what they write to it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ROWS, COLUMNS = 24, 80
CTRL_C = b"\x03"
LEFT_OUT = ("EDGEPICK_", "LC_", "LANG", "TERM", "NO_COLOR", "COLUMNS", "LINES", "PYTHONUTF8", "PYTHONIOENCODING")
CONTROL = re.compile(r"\x1b\[(?P<numbers>[\d;]*)(?P<what>[A-Za-z])")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what describes its terminal, and with ``more``."""
    return {key: value for key, value in os.environ.items() if not key.startswith(LEFT_OUT)} | more


@dataclass
class Session:
    """A command on a terminal, as its session's leader: Ctrl-C reaches it and its children."""

    process: "subprocess.Popen[bytes]"
    keyboard: int
    seen: bytearray = field(default_factory=bytearray)

    def type(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def read_all(self) -> None:
        while True:
            try:
                data = os.read(self.keyboard, 65536)
            except OSError:  # the last one closed its side
                return
            if not data:
                return
            self.seen += data


@contextmanager
def on_terminal(*arguments: object, **environ: str) -> Iterator[Session]:
    """Provide a command that runs on a terminal; it has ended, and all it wrote is read, when this is left."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = ["setsid", "--ctty", sys.executable, "-m", "edgepick_agent", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment(**environ))
    os.close(slave)
    session = Session(process=process, keyboard=master)
    reader = threading.Thread(target=session.read_all)
    reader.start()
    watchdog = threading.Timer(240, process.kill)
    watchdog.start()
    try:
        yield session
        process.wait()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        reader.join(30)
        os.close(master)


def run_on_terminal(*arguments: object, **environ: str) -> tuple[int, str]:
    """Return the exit code of a command, and what it wrote to its terminal, as UTF-8."""
    with on_terminal(*arguments, **environ) as session:
        pass
    return session.process.returncode, session.seen.decode().replace("\r\n", "\n")


def shown(text: str) -> list[str]:
    """Return the lines that a VT100 of 80 x 24 shows after ``text``."""
    lines = [" " * COLUMNS for _ in range(ROWS)]
    row = column = 0
    for part in re.split(r"(\x1b\[[\d;]*[A-Za-z]|\n|\r)", text):
        if control := CONTROL.fullmatch(part):
            numbers = [int(n) for n in control["numbers"].split(";") if n]
            if control["what"] == "H":
                row, column = (numbers[0] - 1, numbers[1] - 1) if numbers else (0, 0)
            elif control["what"] == "K":
                lines[row] = lines[row][:column].ljust(COLUMNS)
            elif control["what"] == "J":
                lines[row:] = [lines[row][:column].ljust(COLUMNS), *[" " * COLUMNS] * (ROWS - row - 1)]
            else:
                raise AssertionError(part)
        elif part == "\n":
            row, column = row + 1, 0
            lines, row = (lines, row) if row < ROWS else ([*lines[1:], " " * COLUMNS], ROWS - 1)
        elif part == "\r":
            column = 0
        else:
            assert column + len(part) <= COLUMNS, f"broken by the terminal: {part!r}"
            lines[row] = (lines[row][:column] + part + lines[row][column + len(part) :])[:COLUMNS]
            column = 0 if column + len(part) == COLUMNS else column + len(part)
    return [line.rstrip() for line in lines]
