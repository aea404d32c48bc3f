"""The agent's log, read again: from the journal where there is one, otherwise from two files of bounded size."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.adapters import log_files
from edgepick_agent.adapters.log_files import BEFORE, CURRENT, FILE_BYTES, LogFiles
from edgepick_agent.cli.log_lines import LogLevel, LogLine, as_json, as_text, from_file, from_journal, moment

NOW = 1_795_000_000.0


def line(text, at=NOW, level=LogLevel.INFO):
    return as_json(LogLine(time=at, level=level, text=text))


@pytest.fixture(autouse=True)
def no_journal(tmp_path, monkeypatch):
    """Let there be no journal but the one that a test writes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "journalctl").write_text("#!/bin/sh\n")
    (folder / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "journalctl"


@pytest.fixture
def kept(config_file):
    """Provide the files of an agent that has said five things, the fourth of them serious."""
    files = LogFiles(config_file.parent / "state" / "log")
    for number in range(5):
        level = LogLevel.WARNING if number == 3 else LogLevel.INFO
        files.append(line(f"said {number}", at=NOW + 60 * number, level=level))
    return files


def texts(result):
    assert result.exit_code == 0, result.output
    return [json.loads(text)["text"] for text in result.stdout.splitlines()]


def test_the_files_never_exceed_their_bound_and_keep_the_latest(tmp_path):
    """Megabytes of log leave two files of 256 KiB at most, with the last lines whole and in order."""
    files = LogFiles(tmp_path / "log")

    for number in range(6000):
        files.append(line(f"{number} " + "x" * 200))

    sizes = [path.stat().st_size for path in (tmp_path / "log").iterdir()]
    numbers = [int(from_file(text).text.split()[0]) for text in files.read()]
    assert max(sizes) <= FILE_BYTES
    assert len(sizes) == 2
    assert numbers == list(range(numbers[0], 6000))
    assert len(numbers) > 1000


def test_one_runaway_message_does_not_push_out_the_others(tmp_path):
    """A line of megabytes is cut before it is kept."""
    files = LogFiles(tmp_path)
    files.append(line("first"))

    files.append(line("x" * 5_000_000))

    assert [from_file(text).text[:5] for text in files.read()] == ["first", "xxxxx"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000


@pytest.mark.parametrize("failure", ["full", "half"])
def test_a_full_disk_costs_lines_and_nothing_else(tmp_path, monkeypatch, failure):
    """Without room nothing is raised; with room again lines are whole, also after one that was cut."""
    files = LogFiles(tmp_path)
    real = os.write
    files.append(line("before"))

    def no_room(descriptor, data):
        if failure == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(log_files.os, "write", no_room)
    files.append(line("lost"))
    monkeypatch.setattr(log_files.os, "write", real)
    files.append(line("after"))

    found = [from_file(text) for text in files.read()]
    assert [entry.text for entry in found if entry is not None] == ["before", "after"]


def test_a_place_that_cannot_be_written_hurts_nobody(tmp_path):
    """Where there should be a folder is a file: nothing is kept, and nothing is raised."""
    (tmp_path / "log").write_text("in the way")

    files = LogFiles(tmp_path / "log")
    files.append(line("x"))

    assert files.read() == []


def test_the_latest_lines_are_shown_to_a_person(command, config_file, kept):
    """Date, clock, a mark at what is serious, and the text; -n bounds them."""
    shown = command("logs", "-c", config_file, "-n", 2)

    first, second = shown.stdout.splitlines()
    assert first == as_text(LogLine(time=NOW + 180, level=LogLevel.WARNING, text="said 3"), dated=True)
    assert "! said 3" in first
    assert second.endswith("  said 4")


def test_a_log_line_moves_no_cursor(command, config_file, kept):
    """What could move a terminal's cursor is a question mark; --json escapes it."""
    kept.append(line("a\x1b[2Jb", at=NOW + 999))

    assert chr(27) not in command("logs", "-c", config_file).stdout
    assert texts(command("logs", "-c", config_file, "-n", 1, "--json")) == ["a\x1b[2Jb"]


def test_level_and_time_choose_lines(command, config_file, kept):
    """Only what is serious, only what is newer, and both with the number of lines."""
    then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW + 119))

    assert texts(command("logs", "-c", config_file, "--json", "--level", "warning")) == ["said 3"]
    assert texts(command("logs", "-c", config_file, "--json", "--since", then)) == ["said 2", "said 3", "said 4"]
    assert texts(command("logs", "-c", config_file, "--json", "--since", then, "-n", 1)) == ["said 4"]


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", NOW - 90), ("10min", NOW - 600), ("2h", NOW - 7200), ("3 d", NOW - 3 * 86400)]
)
def test_a_time_ago_is_understood(text, expected):
    """Seconds, minutes, hours and days."""
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "10 weeks", "2026-13-01", "-5min"])
def test_what_is_no_time_is_a_usage_error_that_shows_one(command, config_file, text):
    """The message shows how a time is written."""
    result = command("logs", "-c", config_file, "--since", text)

    assert result.exit_code == 2
    assert "10min, 2h, 3d" in result.stderr


ENTRIES = (
    {"MESSAGE": line("the agent's own", at=NOW), "PRIORITY": "6"},
    {"MESSAGE": "Started edgepick-agent.service.", "PRIORITY": "6"},
    {"MESSAGE": list("café \udcff".encode("utf-8", "surrogateescape")), "PRIORITY": "3"},
)


def journal_of(program, entries, newest):
    stamps = range(int((newest - len(entries) + 1) * 1e6), int(newest * 1e6) + 1, 1_000_000)
    found = [{**entry, "__REALTIME_TIMESTAMP": str(at)} for entry, at in zip(entries, stamps, strict=True)]
    program.with_name("entries").write_text("\n".join(map(json.dumps, found)) + "\n")
    program.write_text(f'#!/bin/sh\necho "$@" > {program.with_name("asked")}\ncat {program.with_name("entries")}\n')


def test_where_systemd_runs_the_agent_the_journal_is_read(command, config_file, kept, no_journal):
    """Entries of the agent, of systemd about it, and such that are no UTF-8, from the unit's journal."""
    journal_of(no_journal, ENTRIES, NOW + 9000)

    found = texts(command("logs", "-c", config_file, "--json", "-n", 20))

    assert found == ["the agent's own", "Started edgepick-agent.service.", "café \ufffd"]
    asked = no_journal.with_name("asked").read_text().split()
    assert {"--unit", "edgepick-agent", "json", "--no-pager", "20"} <= set(asked)


def test_files_that_are_newer_than_the_journal_count(command, config_file, kept, no_journal):
    """An agent that a person runs after a service ran before is heard, not the old service."""
    journal_of(no_journal, ENTRIES, NOW - 9000)

    assert texts(command("logs", "-c", config_file, "--json", "-n", 1)) == ["said 4"]


def test_without_a_line_the_person_hears_why(command, config_file):
    """Neither journal nor files: no error, but a word about whose log it may be."""
    result = command("logs", "-c", config_file)

    assert (result.exit_code, result.stdout) == (0, "")
    assert "sudo edgepick-agent logs" in result.stderr


def test_an_agent_without_a_journal_keeps_its_log(command, config_file, agent):
    """What a running agent says is in its files, and `logs` shows it; also why it could not start."""
    process = agent()
    started = texts(command("logs", "-c", config_file, "--json"))
    second = subprocess.run(
        [sys.executable, "-m", "edgepick_agent", "run", "--config", str(config_file)], capture_output=True, check=False
    )
    process.terminate()
    process.wait(30)

    assert "agent pi-7 of fleet farm starts" in started
    assert second.returncode == 1
    ended = texts(command("logs", "-c", config_file, "--json"))
    assert any(text.startswith("the agent ended: ") and "another edgepick-agent" in text for text in ended)
    assert ended[-1] == "agent stopped"


def test_an_agent_with_a_journal_keeps_no_files(config_file, agent):
    """Under systemd a card is not worn by a second copy."""
    process = agent(JOURNAL_STREAM="8:1", INVOCATION_ID="x")
    process.terminate()
    process.wait(30)

    assert not (config_file.parent / "state" / "log").exists()


def test_following_shows_what_is_said_from_now_on(config_file, kept):
    """Old lines, then each new one as it is said, also past the moment when a file is put aside; Ctrl-C ends it."""
    command = [sys.executable, "-m", "edgepick_agent", "logs", "-c", str(config_file), "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        first = process.stdout.readline()
        kept.append(line("new"))
        second = process.stdout.readline()
        folder = config_file.parent / "state" / "log"
        (folder / CURRENT).replace(folder / BEFORE)
        kept.append(line("newer"))
        third = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        watchdog.cancel()

    assert [said.split()[-1] for said in (first, second, third)] == ["4", "new", "newer"]
    assert (process.returncode, errors) == (0, "")


def test_threads_write_whole_lines(tmp_path):
    """Several threads at once, and past a change of files: every line is whole."""
    files = LogFiles(tmp_path)
    writers = [
        threading.Thread(target=lambda w=w: [files.append(line(f"{w} {n} " + "y" * 300)) for n in range(300)])
        for w in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert None not in [from_file(text) for text in files.read()]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["time", "level", "text", "about", "MESSAGE", "PRIORITY", "__REALTIME_TIMESTAMP"])


@given(st.text() | st.dictionaries(fields, json_values).map(json.dumps))
def test_whatever_a_file_or_journal_holds_is_a_line_or_nothing(text):
    """Neither reader ever raises, and what one returns can be shown."""
    for found in (from_file(text), from_journal(text)):
        assert found is None or (json.loads(as_json(found)) and as_text(found, dated=True))
