"""Runners that take over from one another: no request lost, none answered by the wrong one, and nobody left behind."""

import http.client
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from edgepick_agent.adapters.runner_look import is_stopped
from edgepick_agent.client import Client
from edgepick_agent.core.runner_spec import RunnerMode, RunnerState
from fakes.free_ports import free_port
from fakes.runner_outside import PATIENCE_SECONDS, UnixHttp, is_gone, until, wait_for
from fakes.runtime_models import digits_image
from fakes.swapping import Swapping, ask_while_swapping


def test_no_request_is_lost_when_runners_take_over_from_one_another(tmp_path, spec):
    """While four clients ask, two with a connection that they keep, runners are exchanged: all answers are right."""
    feed, _ = digits_image()
    swapping = Swapping(tmp_path, spec)
    swapping.swap()
    with Client("digits", path=swapping.path) as client:
        expected = next(iter(client.infer({"image": feed}).values()))

    tally = ask_while_swapping(swapping, feed, expected, requests=800, clients=4, swaps=3)
    swapping.close()

    assert tally.failed == []
    assert tally.wrong == 0
    assert tally.answered >= 800


def test_the_port_is_never_refused_while_runners_change(tmp_path, spec):
    """Clients of the loopback port connect anew for each request, and each is answered across a change."""
    port = free_port()
    swapping = Swapping(tmp_path, replace(spec, tcp_port=port))
    swapping.swap()
    done, statuses = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            connection.request("GET", "/v2/models/digits/ready")
            statuses.append(connection.getresponse().status)
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        until(lambda: len(statuses) > 20, "answers from the first runner")
        swapping.swap()
        before = len(statuses)
        until(lambda: len(statuses) > before + 20, "answers from the second one")
        done.set()
        for one in asking:
            one.result(PATIENCE_SECONDS)
    swapping.close()

    assert set(statuses) == {200}


def test_the_port_is_the_active_variants_alone(tmp_path, spec):
    """While the former runner stays for a fall-back, and after one, whoever connects meets the one that leads."""
    port = free_port()
    swapping = Swapping(tmp_path, replace(spec, tcp_port=port))

    def versions() -> set[str]:
        found = set()
        for _ in range(100):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            connection.request("GET", "/v2/models/digits")
            found.update(json.loads(connection.getresponse().read())["versions"])
            connection.close()
        return found

    runners = [swapping.start(), swapping.start()]
    seen = []
    for leading, version in ((0, "1"), (1, "2"), (0, "1")):
        swapping.lead(runners[leading])
        seen.append(until(lambda version=version: (found := versions()) == {version} and found, f"{version} alone"))
    swapping.close()

    assert seen == [{"1"}, {"2"}, {"1"}]


def test_a_retiring_runner_answers_for_the_last_time_and_goes(start, spec):
    """A kept connection is answered once more, told to close, and then the process ends by itself."""
    process = start.serving(spec)
    path = Path(process._spec.socket_path)
    connection = UnixHttp(path)
    connection.request("GET", "/v2/models/digits")
    before = connection.getresponse()
    before.read()

    process.retire()
    until(lambda: not path.exists(), "the name is given up")
    connection.request("GET", "/v2/models/digits")
    last = connection.getresponse()
    last.read()
    connection.close()
    until(lambda: is_gone(process.pid), "the runner has ended")

    assert (before.status, before.headers["Connection"]) == (200, None)
    assert (last.status, last.headers["Connection"]) == (200, "close")


def test_a_retiring_runner_that_is_stopped_lets_its_clients_go(tmp_path, spec):
    """A request that a stopped runner holds is answered by its successor, long before the old one's time is over."""
    feed, _ = digits_image()
    swapping = Swapping(tmp_path, spec)
    swapping.swap()
    client = Client("digits", path=swapping.path, timeout=PATIENCE_SECONDS)
    expected = client.infer({"image": feed})

    os.kill(swapping.pids[0], signal.SIGSTOP)
    until(lambda: is_stopped(swapping.pids[0]), "stopped")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.infer, {"image": feed})
        swapping.swap()
        until(lambda: swapping.look() and asked.done(), "an answer")
        found = asked.result()
    client.close()
    gone = is_gone(swapping.pids[0])
    swapping.close()

    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in expected.items()}
    assert gone


def test_a_retiring_runner_leaves_the_name_to_a_newer_one(start, spec, tmp_path):
    """Where another runner listens under the same name, the old one does not remove it when it ends."""
    shared = replace(spec, socket_path=str(tmp_path / "same.sock"))
    old = start.serving(shared)
    first = Path(shared.socket_path).stat().st_ino
    new = start(shared, RunnerMode.SERVE)
    # Until it has taken the name, the old one answers for it.
    until(lambda: Path(shared.socket_path).exists() and Path(shared.socket_path).stat().st_ino != first, "taken over")
    wait_for(new, RunnerState.READY)

    old.retire()
    until(lambda: is_gone(old.pid), "the old runner has ended")
    with Client("digits", path=shared.socket_path) as client:
        ready = client.metadata()["name"]

    assert ready == "digits"
    assert not is_gone(new.pid)
