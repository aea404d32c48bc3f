"""Progress can be read, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from edgepick_host.demo.progress import Progress


def spoken(*, terminal: bool) -> tuple[Progress, io.StringIO]:
    heard = io.StringIO()
    console = Console(file=heard, force_terminal=terminal, width=100, highlight=False, color_system=None)
    return Progress(console), heard


@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_ends_with_what_came_out_and_how_long_it_took(*, terminal: bool) -> None:
    """The last detail stands in the closing line."""
    progress, heard = spoken(terminal=terminal)

    with progress.step("compress") as step:
        step.detail("1 of 8")
        step.detail("8 variants")

    assert "compress: 8 variants" in heard.getvalue()
    assert " s)" in heard.getvalue()


def test_a_log_has_no_control_characters() -> None:
    """Away from a terminal there are plain lines, the first of them before the work is done."""
    progress, heard = spoken(terminal=False)

    progress.heading("Deliver")
    with progress.step("publish"):
        assert "... publish" in heard.getvalue()

    assert "\x1b" not in heard.getvalue()
    assert "\r" not in heard.getvalue()


def test_a_step_that_fails_is_not_called_ok() -> None:
    """An error passes through, and no closing line is written."""
    progress, heard = spoken(terminal=False)

    with pytest.raises(RuntimeError), progress.step("publish"):
        raise RuntimeError

    assert "ok" not in heard.getvalue()


def test_square_brackets_are_text() -> None:
    """What is said is never taken for markup."""
    progress, heard = spoken(terminal=False)

    progress.note("pip install 'edgepick[demo]'")
    progress.warn("no [bold] claims")

    assert "edgepick[demo]" in heard.getvalue()
    assert "no [bold] claims" in heard.getvalue()
