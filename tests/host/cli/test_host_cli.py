"""The root command: quick, and one message for every error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgepick_host.cli import main as cli
from edgepick_host.errors import StateError
from edgepick_wire.errors import BadNameError, MalformedError
from edgepick_wire.version import __version__

HEAVY = ("sqlalchemy", "paho", "nacl", "numpy", "edgepick_host.app", "edgepick_profiles.load")


def python(code: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **more)


@pytest.fixture
def broken(monkeypatch):
    """Provide a way to install a command that raises what it is given."""

    def install(error: BaseException, name: str = "devices") -> None:
        @click.command(name)
        @click.option("--json", "as_json", is_flag=True)
        def command(as_json: bool) -> None:
            raise error

        monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)

    return install


def test_help_imports_no_command():
    """``edgepick --help`` names every command and loads none of what they need."""
    done = python(
        "import sys; from edgepick_host.cli.main import run; run(['--help']);"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])"
    )

    assert "loaded: []" in done.stdout
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout


def test_version(edgepick):
    """``--version`` prints the version of the one distribution."""
    assert edgepick("--version").out.strip() == f"edgepick, version {__version__}"


def test_bare_installation_says_what_to_install():
    """Without click the command prints the pip line and exits with 2."""
    done = python(
        "import sys, importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'click' else found(name, *a)\n"
        "from edgepick_host.__main__ import main\n"
        "sys.exit(main())"
    )

    assert done.returncode == 2
    assert "pip install 'edgepick[host]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "arguments"), [("nacl", ["keys", "init", "--dir", "k"]), ("paho", ["devices", "list"])]
)
def test_missing_package_names_the_extra(package, arguments, tmp_path):
    """A command whose package is missing names it and the pip line; exit code 2 and no trace."""
    done = python(
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from edgepick_host.cli.main import run; sys.exit(run({arguments!r}))",
        cwd=tmp_path,
    )

    assert done.returncode == 2
    assert f"'{package}" in done.stderr
    assert "pip install 'edgepick[host]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_compress_names_its_own_extra(broken, edgepick):
    """A foreign package missing deep in ``compress`` names the extra of that command."""
    broken(ModuleNotFoundError("No module named 'ai_edge_quantizer'", name="ai_edge_quantizer"), "compress")

    done = edgepick("compress")

    assert done.code == 2
    assert "'ai_edge_quantizer'" in done.err
    assert "pip install 'edgepick[compress]'" in done.err


def test_unknown_command_gets_a_guess(edgepick):
    """A command that does not exist gives exit code 2 and the nearest one."""
    done = edgepick("devicez", "list")

    assert done.code == 2
    assert "Did you mean 'devices'?" in done.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StateError("it is late", hint="come tomorrow"), 1, "error: it is late\nhint: come tomorrow\n"),
        (BadNameError("device name 'A'"), 2, "error: device name 'A'\nhint: Use 1 to 64"),
        (MalformedError("no header"), 4, "error: no header\nhint: "),
        (
            RuntimeError("oh"),
            1,
            "error: unexpected: RuntimeError: oh (this is a bug; run with --verbose for the trace)",
        ),
    ],
)
def test_every_error_is_one_message(broken, edgepick, error, code, said):
    """Each kind of error gives its exit code, a message, a hint, and no trace."""
    broken(error)

    done = edgepick("devices")

    assert done.code == code
    assert done.err.startswith(said)
    assert "Traceback" not in done.err


def test_verbose_shows_the_trace(broken, edgepick):
    """With ``--verbose`` the trace of an error is shown too."""
    broken(RuntimeError("oh"))

    assert "Traceback" in edgepick("--verbose", "devices").err


def test_usage_errors_are_json_where_asked(edgepick):
    """A wrong option with ``--json`` is a JSON object on stderr, exit code 2."""
    done = edgepick("keys", "show", "--json", "--colour")

    assert done.code == 2
    assert json.loads(done.err)["error"]["code"] == "usage"


def test_interrupted(broken, edgepick):
    """Ctrl-C gives exit code 130 and no trace."""
    broken(KeyboardInterrupt())

    done = edgepick("devices")

    assert done.code == 130
    assert "Traceback" not in done.err


def test_reader_that_went_away():
    """A closed pipe ends the command quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "edgepick_host", "profiles", "list", "--json"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["profiles", "list"], ["profiles", "list", "--json"]])
def test_a_full_disk_under_the_output_is_no_defect(arguments):
    """What cannot be printed is one message: no bug to be reported, no complaint of Python's own at the end."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgepick_host", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environ,
        )

    assert done.returncode == 1
    assert "cannot write: No space left on device" in done.stderr
    assert "bug" not in done.stderr
    assert "ignored" not in done.stderr


def test_wrong_configuration_is_one_message(site, edgepick):
    """A configuration with two mistakes gives exit code 2 and both of them."""
    path = site.folder / "bad.toml"
    path.write_text('flet = "a"\ndatabase = 3\n')

    done = edgepick("--config", path, "devices", "list")

    assert done.code == 2
    assert "flet: unknown key" in done.err
    assert "database: found 3" in done.err
