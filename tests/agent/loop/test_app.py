"""The agent put together from its real parts, with and without a running one."""

import os
import threading
from dataclasses import replace

import pytest

from edgepick_agent import app, instruments
from edgepick_agent.adapters.storage import FileStorage
from edgepick_agent.core.control import CONTROL_THREAD, Command, ControlRequest
from edgepick_agent.core.settings import AgentSettings, BrokerSettings
from edgepick_agent.core.state import AgentState, encode_state
from edgepick_agent.errors import AlreadyRunningError, ConfigError, StorageError
from edgepick_agent.loop.defects import Defects
from edgepick_wire import envelope
from edgepick_wire.messages import RefusalCode, RuntimeAvailable
from fakes.agent_process import until
from wire.wire_keys import root, signed_root


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "root.signed").write_bytes(envelope.pack(signed_root(root(), 0)))
    return AgentSettings(
        device="pi-1",
        fleet="demo",
        profile="generic-linux",
        state_dir=str(tmp_path / "state"),
        root_document=str(tmp_path / "root.signed"),
        broker=BrokerSettings(host="127.0.0.1", port=9),
    )


@pytest.fixture
def few_runtimes(monkeypatch):
    """Spare the tests the probe, which loads every runtime there is."""
    asked = []

    def probe(python, work_dir):
        asked.append(python)
        return (RuntimeAvailable(name="litert", version="2"),)

    monkeypatch.setattr("edgepick_agent.adapters.runner_process.probe_runtimes", probe)
    return asked


def silent(text, *, serious=False, about=None) -> None:
    """Log nothing."""


def test_without_an_agent_the_state_directory_tells_the_status(settings, tmp_path):
    """Status works on a device whose agent does not run, even before its first start."""
    before = app.read_status(settings)
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / "state.json").write_bytes(encode_state(AgentState(session=7, security_epoch=3)))

    after = app.read_status(settings)

    assert (before.running, before.session) == (False, 0)
    assert (after.running, after.session, after.security_epoch) == (False, 7, 3)


def test_a_damaged_state_is_told_with_what_to_do(settings, tmp_path):
    """Status of a damaged state names the file and says that the agent mends it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_bytes(b"rubbish")

    with pytest.raises(StorageError) as caught:
        app.read_status(settings)

    assert "state.json" in str(caught.value)
    assert "Start the agent" in caught.value.hint


def test_a_request_without_an_agent_is_carried_out_here(settings, few_runtimes):
    """A rollback on a stopped device is answered by the same rules."""
    reply = app.request(settings, ControlRequest(command=Command.ROLLBACK, model="digits"))

    assert not reply.ok
    assert reply.hint == "Models on this device: none."


def test_a_stick_without_an_agent_is_judged_by_the_same_rules(settings, few_runtimes, tmp_path):
    """A file that is no bundle is refused offline with its code."""
    (tmp_path / "x.edgepick").write_bytes(b"rubbish")

    reply = app.request(settings, ControlRequest(command=Command.INSTALL, path=str(tmp_path / "x.edgepick")))

    assert reply.refusal is not None
    assert reply.refusal.code is RefusalCode.MALFORMED


def test_a_running_agent_answers_and_keeps_others_out(settings, few_runtimes):
    """While it runs, status comes from it, and a second one is turned away."""
    stop, ready = threading.Event(), threading.Event()
    runs = threading.Thread(
        target=app.run_agent, kwargs={"settings": settings, "stop": stop, "on_ready": ready.set, "log": silent}
    )
    runs.start()
    try:
        assert ready.wait(60)
        status = app.read_status(settings)
        with pytest.raises(AlreadyRunningError):
            app.run_agent(settings, stop=stop, log=silent)
        broker = until(lambda: (b := app.read_status(settings).broker) != "connecting" and b, "tried")
    finally:
        stop.set()
        runs.join(60)

    assert status.running
    assert status.session == 1
    assert "connection refused" in broker
    assert not runs.is_alive()
    assert not app.read_status(settings).running


def test_an_agent_whose_worker_meets_a_defect_ends_with_it(settings, few_runtimes, monkeypatch, capfd):
    """It does not go on without the thread that stores what it fetches; whoever supervises it starts it anew."""
    stop = threading.Event()

    def asked(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(app, "available_runtimes", asked)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    with pytest.raises(ZeroDivisionError, match="a defect"):
        app.run_agent(settings, stop=stop, log=silent)

    assert "a defect" in capfd.readouterr().err
    assert not app.read_status(settings).running
    assert threading.excepthook is threading.__excepthook__


def test_a_technician_who_meets_a_defect_does_not_end_the_agent(monkeypatch, capfd):
    """What goes wrong for one connection is written down, and the agent goes on."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    stop = threading.Event()

    with Defects(stop):
        thread = threading.Thread(target=lambda: 1 / 0, name=CONTROL_THREAD)
        thread.start()
        thread.join()

    assert not stop.is_set()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_runtimes_are_asked_for_once_per_interpreter(settings, few_runtimes, tmp_path):
    """The answer is remembered in the state directory; another interpreter is asked anew."""
    (tmp_path / "state").mkdir()
    other = replace(settings, runner=replace(settings.runner, python="/opt/other/bin/python"))

    found = [app.available_runtimes(s) for s in (settings, settings, other)]

    assert len(set(found)) == 1
    assert few_runtimes == [few_runtimes[0], "/opt/other/bin/python"]


@pytest.mark.parametrize("trouble", ["read", "write"])
def test_runtimes_are_known_although_they_cannot_be_remembered(settings, few_runtimes, tmp_path, monkeypatch, trouble):
    """A memo of somebody else's or a full disk costs the look that the memo spares; the agent plans as ever."""
    (tmp_path / "state").mkdir()

    def fails(*_: object) -> None:
        raise StorageError("runtimes.json: no")

    monkeypatch.setattr(FileStorage, trouble, fails)

    found = [app.available_runtimes(settings) for _ in range(2)]

    assert found[0] == found[1] != ()
    assert len(few_runtimes) == 2


def test_root_remembers_nothing_in_a_folder_of_somebody_elses(settings, few_runtimes, tmp_path):
    """``sudo edgepick-agent doctor`` leaves no file that the service cannot read."""
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)

    found = app.available_runtimes(settings)

    assert found
    assert len(few_runtimes) == 1
    assert list((tmp_path / "state").iterdir()) == []


def test_looking_for_runtimes_makes_no_state_directory(settings, tmp_path):
    """``sudo edgepick-agent doctor`` before the first start makes no folder that would be root's."""
    found = app.available_runtimes(settings)

    assert found
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", [None, b"rubbish", envelope.pack(signed_root(root(), 1))])
def test_a_root_document_that_cannot_be_trusted_stops_the_start(settings, tmp_path, content):
    """Missing, damaged, or not signed by itself: the agent does not start, and says which file."""
    (tmp_path / "root.signed").unlink()
    if content is not None:
        (tmp_path / "root.signed").write_bytes(content)

    with pytest.raises(ConfigError, match=r"root\.signed"):
        app.run_agent(settings, stop=threading.Event(), log=silent)


def test_the_root_document_of_another_fleet_stops_the_start(settings):
    """A device is not run with another fleet's keys."""
    with pytest.raises(ConfigError, match="'demo'"):
        app.run_agent(replace(settings, fleet="other"), stop=threading.Event(), log=silent)


def test_a_state_directory_too_deep_for_sockets_stops_the_start(settings):
    """The message says how long the path would be, the hint how to mend it."""
    deep = replace(settings, state_dir="/tmp/" + "d" * 100)

    with pytest.raises(ConfigError, match="at most 107") as caught:
        app.run_agent(deep, stop=threading.Event(), log=silent)

    assert "shorter path" in caught.value.hint


def test_every_adapter_in_the_tables_exists():
    """Each literal name leads to something that can be imported."""
    for table in (instruments.RUNTIMES, instruments.SENSORS, app.TOOLS, app.PARTS):
        for reference in table.values():
            assert callable(instruments.adapter(reference))
