"""The commands on a serial console: 80 x 24, 9600 baud, no colour, no locale; Ctrl-C; a reader that goes away."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminals import CTRL_C, environment, on_terminal, run_on_terminal, shown

from edgepick_agent.adapters.log_files import CURRENT
from edgepick_agent.cli.painter import CLEAR, REPAINT_EVERY, Painter
from edgepick_agent.cli.status import screen
from edgepick_agent.cli.terminal import only_ascii
from edgepick_agent.core.control import AgentStatus
from edgepick_wire.messages import ModelState, Phase

MODEL = Path(__file__).parents[3] / "host_tools/edgepick_host/demo/data/digits.tflite"
SAID = '{"time": 1, "level": "info", "text": "said"}\n'
BYTES_PER_SECOND = 9600 // 10
"""9600 baud, a start and a stop bit around each byte."""
INTERVAL_SECONDS = 2
"""The default of ``watch``."""


@pytest.fixture
def device(command, config_file, bundle_file, tmp_path):
    """Provide a folder, its name not ASCII, with the configuration and the state of a device that has a model."""
    assert command("install", bundle_file("1"), "-c", config_file, "--yes").exit_code == 0
    folder = tmp_path / "gerät"
    folder.mkdir()
    config_file.rename(folder / "agent.toml")
    (tmp_path / "state").rename(folder / "state")
    (folder / "größe\x07.tflite").write_bytes(MODEL.read_bytes())
    (folder / "was.json").write_text("{}")
    return folder


LINES = (
    "status -c {}/agent.toml",
    "doctor -c {}/agent.toml",
    "watch -c {}/agent.toml --count 2 --interval 0.1",
    "config check -c {}/agent.toml",
    "config show -c {}/agent.toml",
    "logs -c {}/agent.toml",
    "run -c {}/none.toml",
    "init --out {}/agent.toml",
    "infer {}/was.json -c {}/agent.toml",
    "install {}/was.json -c {}/agent.toml --yes",
    "rollback -c {}/agent.toml --yes",
    "pin -c {}/agent.toml",
    "unpin -c {}/agent.toml",
    "benchmark {}/größe\x07.tflite --runs 2 --seconds 0",
    "compare {}/was.json {}/was.json",
    "support-bundle -c {}/agent.toml --out {}/s.tar.gz",
    "completion bash",
    "service install -c {}/agent.toml --dry-run",
    "--help",
)
"""Each command; those that must fail here write their error to the same terminal."""


@pytest.mark.parametrize(
    "terminal",
    [{"TERM": "dumb", "LC_ALL": "C"}, {"TERM": "vt100", "LANG": "C", "NO_COLOR": "1"}],
    ids=lambda terminal: terminal["TERM"],
)
def test_every_command_speaks_to_a_serial_console(device, terminal):
    """ASCII alone, no colour, no trace, and not one escape sequence where the terminal is dumb, whatever the names."""
    said = {line: run_on_terminal(*(w.format(*[device] * 2) for w in line.split()), **terminal) for line in LINES}

    assert [line for line, (_, text) in said.items() if not text.isascii()] == []
    assert [line for line, (_, text) in said.items() if "\x1b[" in text and text.split("\x1b[")[1][-1:] == "m"] == []
    assert [line for line, (_, text) in said.items() if "\x07" in text] == []
    assert [line for line, (_, text) in said.items() if terminal["TERM"] == "dumb" and "\x1b" in text] == []
    assert [line for line, (_, text) in said.items() if not text or "Traceback" in text or "unexpected" in text] == []
    assert {line.split()[0]: code for line, (code, _) in said.items() if code not in {0, 1, 2}} == {"infer": 3}
    assert "gr??e?.tflite" in said[LINES[13]][1]


def test_the_live_screen_is_the_screen_of_status(device):
    """After several refreshes a terminal of 80 x 24 shows just what ``status`` prints, nothing scrolled away."""
    _, plain = run_on_terminal("status", "-c", device / "agent.toml", TERM="vt100")
    code, text = run_on_terminal("watch", "-c", device / "agent.toml", "--count", 3, "--interval", 0.1, TERM="vt100")

    assert code == 0
    assert steady(text)[:8] == steady(plain)[:8]
    assert "digits: confirmed, chosen here" in shown(text)


def steady(text):
    """Return the lines on the screen without the figure that changes by itself while others write to the same disk."""
    return [re.sub(r"^(disk +)[0-9.]+ [A-Za-z]+ free", r"\1some free", line) for line in shown(text)]


words = st.text(max_size=90)


@given(st.lists(words.map("\n".join) | words, min_size=1, max_size=8))
def test_whatever_is_painted_over_whatever_shows_as_if_it_stood_alone(texts):
    """The terminal shows the last of any sequence of screens, cut to its size, and never scrolls."""
    painter = Painter()

    written = "".join(painter.paint(text) for text in texts)

    alone = Painter().paint(texts[-1])
    assert shown(written) == shown(alone)
    assert "\n" not in written


def state(**changes):
    model = ModelState(
        model="digits", phase=Phase.CONFIRMED, active="ab" * 32, active_label="digits 2 static_wi8_ai8",
        previous="cd" * 32, previous_label="digits 1 float32",
    )  # fmt: skip
    plain = AgentStatus(
        running=True, device="pi-7", fleet="farm", profile="raspberry-pi-4", session=3, broker="connected",
        sequence=41, security_epoch=2, disk_free_bytes=12 * 1024**3, rss_bytes=25 * 1024**2,
        models=(model, dataclasses.replace(model, model="faces")),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_a_refresh_fits_into_its_interval_at_9600_baud(tell):
    """A whole screen of two models takes less than the default interval; what changes later a small part of it."""
    painter = Painter()

    sizes = [len(painter.paint(screen(state(rss_bytes=(25 + n) * 1024**2, outbox=n)))) for n in range(REPAINT_EVERY)]

    tell(f"a screen of two models: {sizes[0]} bytes at first, then at most {max(sizes[1:])} a refresh")
    assert sizes[0] <= INTERVAL_SECONDS * BYTES_PER_SECOND
    assert max(sizes[1:]) <= INTERVAL_SECONDS * BYTES_PER_SECOND / 8


def test_what_somebody_else_wrote_on_the_console_goes_again():
    """The kernel writes to a serial console too: from time to time the whole screen is painted."""
    painter = Painter()

    painted = [painter.paint("same") for _ in range(REPAINT_EVERY + 1)]

    assert [CLEAR in text for text in painted] == [True, *[False] * (REPAINT_EVERY - 1), True]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "de_DE.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_CTYPE": "C.UTF-8"}, False),
    ],
)
def test_the_locale_says_what_the_terminal_has(environ, expected):
    """LC_ALL before LC_CTYPE before LANG; what Python puts there itself counts for nothing."""
    assert only_ascii(environ) is expected


def test_watching_for_programs_is_one_document_a_line(device):
    """Each line of ``watch --json`` is a document of its own: when, the status, what to do."""
    command = [sys.executable, "-m", "edgepick_agent", "watch", "-c", str(device / "agent.toml"), "--json"]

    done = subprocess.run([*command, "--count", "3", "--interval", "0.1"], capture_output=True, text=True, check=False)

    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["status"]["models"][0]["model"] for document in documents] == ["digits"] * 3
    assert documents[0]["time"] < documents[1]["time"] < documents[2]["time"]
    assert all(document["advice"] for document in documents)


@pytest.mark.parametrize("line", ["logs", "status", "config show", "watch --count 5 --interval 0.1", "status --json"])
def test_a_reader_that_went_away_ends_it_quietly(device, line):
    """As with ``| true``: not a word on standard error, and the exit code that shells have for it."""
    reader, writer = os.pipe()
    os.close(reader)
    (device / "state" / "log").mkdir(exist_ok=True)
    (device / "state" / "log" / CURRENT).write_text(SAID * 100)
    arguments = [sys.executable, "-m", "edgepick_agent", *line.split(), "-c", str(device / "agent.toml")]

    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(arguments, stdout=gone, stderr=subprocess.PIPE, env=environment(), check=False)

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("line", ["watch --interval 0.1", "logs --follow"])
def test_ctrl_c_is_how_one_leaves_a_live_view(device, line):
    """What runs until Ctrl-C has done its job then: exit code 0, and no word about it."""
    (device / "state" / "log").mkdir(exist_ok=True)
    (device / "state" / "log" / CURRENT).write_text(SAID)
    with on_terminal(*line.split(), "-c", device / "agent.toml", TERM="vt100") as session:
        _until(lambda: session.seen)
        session.type(CTRL_C)

    assert session.process.returncode == 0
    assert b"error:" not in session.seen
    assert b"Traceback" not in session.seen


def test_ctrl_c_in_a_benchmark_leaves_nothing_behind(device):
    """Exit code 130, one word, no trace of any process; no runner goes on, no temporary file stays."""
    temporary = device / "t"
    temporary.mkdir()
    arguments = ("benchmark", MODEL, "--seconds", 50, "--runs", 1)
    with on_terminal(*arguments, TERM="vt100", TMPDIR=str(temporary)) as session:
        started = psutil.Process(session.process.pid)
        _until(lambda: started.children() and list(temporary.iterdir()))
        runners = started.children(recursive=True)
        session.type(CTRL_C)

    assert session.process.returncode == 128 + signal.SIGINT
    assert b"error: interrupted" in session.seen
    assert b"Traceback" not in session.seen
    assert psutil.wait_procs(runners, timeout=30)[1] == []
    assert list(temporary.iterdir()) == []


def _until(reached, seconds=60):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)
