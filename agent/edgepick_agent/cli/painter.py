"""Shows one screen after another in the same place of a terminal, over a line of 9600 baud."""

import shutil

from edgepick_agent.cli.render import printable

CLEAR = "\x1b[H\x1b[J"
REPAINT_EVERY = 15
"""A screen is painted whole so often, because the kernel too writes to a serial console."""


class Painter:
    """Shows one screen after another in the same place, sending only the lines that changed.

    Uses what a VT100 has: cursor addressing, erasing to the end of the line and of the screen.
    """

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._painted = 0

    def paint(self, text: str) -> str:
        """Return what makes the terminal show ``text``, cut to its size; the cursor rests below it."""
        columns, rows = shutil.get_terminal_size()
        lines = [printable(line)[:columns] for line in text.split("\n")[:rows]]
        whole = self._painted % REPAINT_EVERY == 0
        before = [] if whole else self._shown
        self._shown, self._painted = lines, self._painted + 1
        return (CLEAR if whole else "") + "".join(_changed(before, lines)) + f"\x1b[{min(len(lines) + 1, rows)};1H"


def _changed(before: list[str], lines: list[str]) -> list[str]:
    """Return each line that differs, at its place; erased first, as a VT100 at its right margin erases a character."""
    rows = range(max(len(before), len(lines)))
    pairs = [(_at(before, row), _at(lines, row), row + 1) for row in rows]
    return [f"\x1b[{row};1H\x1b[K{new}" for old, new, row in pairs if new != old]


def _at(lines: list[str], row: int) -> str:
    return lines[row] if row < len(lines) else ""
