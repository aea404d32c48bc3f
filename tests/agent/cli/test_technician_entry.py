"""The console script: quick, small, one message per error, the promised exit codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgepick_agent.__main__ import plain_run
from edgepick_agent.cli import commands, failures
from edgepick_agent.errors import ConfigError, RefusedError, UnreachableError
from edgepick_wire.errors import MalformedError, SignatureError
from edgepick_wire.messages import Refusal, RefusalCode

BLOCK_CLICK = "import sys; sys.modules['click'] = None; from edgepick_agent.__main__ import main; main({arguments!r})"


def agent(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "edgepick_agent", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )


def test_without_click_the_pip_line_is_printed():
    """A missing package is one line with its cure and exit code 2, never a trace."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_CLICK.format(arguments=["status"])], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "hint: pip install 'edgepick[agent]'"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["status"], ["run", "--config", "agent.toml"]])
def test_any_other_missing_package_is_named_too(arguments):
    """A package that the configuration's reader needs is missed in the same words, also by ``run``."""
    block = "import sys; sys.modules['tomllib'] = None; sys.modules['tomli'] = None;"
    code = f"{block} from edgepick_agent.__main__ import main; main({arguments!r})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "hint: pip install 'edgepick[agent]'"
    assert "Traceback" not in done.stderr


def test_run_as_systemd_starts_it_needs_no_click(tmp_path):
    """``run --config FILE`` reaches the configuration without the command line library."""
    arguments = ["run", "--config", str(tmp_path / "none.toml")]

    done = subprocess.run(
        [sys.executable, "-c", BLOCK_CLICK.format(arguments=arguments)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "none.toml: no such file" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        (["run", "--config", "a.toml"], "a.toml"),
        (["run", "-c", "a.toml"], "a.toml"),
        (["run", "--config=a.toml"], "a.toml"),
        (["run"], None),
        (["run", "--help"], None),
        (["--verbose", "run", "-c", "a"], None),
        (["status", "-c", "a.toml"], None),
    ],
)
def test_only_the_plain_form_of_run_is_read_by_hand(arguments, config):
    """Everything but exactly ``run --config FILE`` goes to the command line library."""
    assert plain_run(arguments) == config


def test_every_command_of_the_table_exists_and_helps(command):
    """Each name leads to a command, whose help opens with a sentence."""
    results = {name: command(name, "--help") for name in commands.COMMANDS}

    assert {name: result.exit_code for name, result in results.items()} == dict.fromkeys(commands.COMMANDS, 0)
    assert all(name in command("--help").output for name in commands.COMMANDS)


def test_a_mistyped_command_suggests_the_right_one(command):
    """An unknown command is a usage error with a suggestion."""
    result = command("statsu")

    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c"), 2),
        (UnreachableError("u"), 3),
        (RefusedError(Refusal(code=RefusalCode.BAD_SIGNATURE, detail="d", hint="h")), 4),
        (RefusedError(Refusal(code=RefusalCode.NO_SPACE, detail="d", hint="h")), 1),
        (SignatureError("s"), 4),
        (MalformedError("m"), 1),
        (KeyboardInterrupt(), 130),
        (ModuleNotFoundError("No module named 'nacl'", name="nacl"), 2),
        (KeyError("bug"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_one_message(monkeypatch, command, error, code):
    """Whatever a command raises becomes ``error: ...`` and the promised exit code, without a trace."""

    @click.command()
    def broken():
        raise error

    monkeypatch.setattr(commands, "broken", broken, raising=False)
    monkeypatch.setitem(commands.COMMANDS, "broken", ("edgepick_agent.cli.commands:broken", ""))

    result = command("broken")

    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


def test_verbose_adds_the_trace(monkeypatch, command, tmp_path):
    """``--verbose`` shows where an error came from, above the same message."""
    result = command("--verbose", "status", "-c", tmp_path / "none.toml")

    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-2].startswith("error: ")


def test_an_unexpected_error_asks_for_a_report():
    """A defect of ours is called one, and the way to report it is named."""
    message, hint, code = failures.explain(ZeroDivisionError("division by zero"))

    assert (message, code) == ("unexpected ZeroDivisionError: division by zero", 1)
    assert "--verbose" in hint


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["status", "--help"], ["completion", "bash"]])
def test_a_full_disk_under_the_output_is_no_defect(arguments):
    """What cannot be printed is one message and one hint: no trace, no complaint of Python's own at the end."""
    command = [sys.executable, "-m", "edgepick_agent", *arguments]
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environ)

    assert done.returncode == 1
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    assert "No space left on device" in done.stderr
    assert "defect" not in done.stderr


@pytest.mark.parametrize("option", ["--broker", "--state-dir", "--device"])
def test_a_name_that_is_not_utf_8_is_refused(command, tmp_path, option):
    """Bytes of another locale are shown for what they are; nothing is written, and nobody speaks of a defect."""
    found = command("init", option, os.fsdecode(b"g\xe4rten"), "--out", tmp_path / "agent.toml")

    assert found.exit_code == 2
    assert "defect" not in found.output
    assert not (tmp_path / "agent.toml").exists()


INTERRUPT = """
import os, signal
from edgepick_agent.cli import commands, site
site.status = lambda settings: os.kill(os.getpid(), signal.SIGINT)
commands.cli.main(["status", "-c", {config!r}])
"""


def test_ctrl_c_is_no_trace(config_file):
    """A real process that is interrupted ends quietly, with the exit code that shells expect."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT.format(config=str(config_file))], capture_output=True, text=True, check=False
    )

    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.strip() == "error: interrupted"


def test_the_module_and_the_version(command):
    """``python -m edgepick_agent --version`` works as the console script does."""
    done = agent("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("edgepick-agent, version ")
