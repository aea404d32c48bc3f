"""What the demo says while it works: a living line on a terminal, plain lines in a log. All on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape


class Step(Protocol):
    """One piece of work that is being done."""

    def detail(self, text: str) -> None:
        """Say how far it is, or what was found."""
        ...


class Progress:
    """Says what is being done, how long it took, and what came out.

    Args:
        console: Where to write; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._start

    def heading(self, text: str) -> None:
        """Begin a part of the demo."""
        self._say(f"\n[bold]{escape(text)}[/]")

    def note(self, text: str) -> None:
        """Say something that is true now."""
        self._say(f"  [dim]{escape(text)}[/]")

    def warn(self, text: str) -> None:
        """Say what is missing or was left out."""
        self._say(f"  [yellow]! {escape(text)}[/]")

    def _say(self, text: str) -> None:
        """Write one line; away from a terminal it is never folded."""
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Say that ``title`` is being done until the context ends, then what came out and how long it took."""
        begun = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(f" {escape(title)}", spinner="dots") as status:
                step = _Line(title, lambda text: status.update(f" {escape(title)} [dim]{escape(text)}[/]"))
                yield step
        else:
            self._say(f"  ... {escape(title)}")
            step = _Line(title, lambda _text: None)
            yield step
        seconds = time.monotonic() - begun
        found = f": {step.last}" if step.last else ""
        self._say(f"  [green]ok[/]  {escape(title + found)} [dim]({seconds:.1f} s)[/]")


class _Line:
    """A step; remembers the last detail."""

    def __init__(self, title: str, show: "ShowDetail") -> None:
        self.title = title
        self.last = ""
        self._show = show

    def detail(self, text: str) -> None:
        """Show and remember ``text``."""
        self.last = text
        self._show(text)


class ShowDetail(Protocol):
    """Shows a detail while the step is going on."""

    def __call__(self, text: str, /) -> None:
        """Show ``text``."""
        ...
