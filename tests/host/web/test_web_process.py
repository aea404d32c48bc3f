"""``edgepick serve --http`` as a process: tokens made by the command, requests over the socket, a clean end."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from edgepick_host.cli.main import run
from fakes.agent_process import DEADLINE_SECONDS, until
from fakes.host_site import new_site


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Provide a host's folder that the test stands in."""
    monkeypatch.chdir(tmp_path)
    return new_site(tmp_path)


def serve(site, *arguments):
    command = [sys.executable, "-m", "edgepick_host", "serve", *arguments, "--json"]
    with (site.folder / "serve.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=site.folder, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )


def said(site, word: str) -> str | None:
    lines = (site.folder / "serve.log").read_text().splitlines()
    return next((text for line in lines if word in (text := json.loads(line)["text"])), None)


def test_the_service_answers_and_ends(broker, site, capsys):
    """A token of ``tokens add`` opens the API of ``serve --http``; SIGTERM ends both with exit code 0."""
    capsys.readouterr()
    assert run(["tokens", "add", "ann", "--role", "operator", "--json"]) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    process = serve(site, "--broker", broker.url, "--http", "127.0.0.1:0")
    try:
        place = until(lambda: said(site, "page and API at"), "it listens").split()[-1]
        until(lambda: said(site, "serving fleet"), "it coordinates")

        request = urllib.request.Request(f"{place}api/v1/fleet", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            seen = json.load(response)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE_SECONDS)

    assert seen["coordinator"] is not None
    assert (code, said(site, "ended")) == (0, "ended")
    assert said(site, "nobody has a token") is None


def test_a_place_that_cannot_be_had_is_said(broker, site):
    """An address that is not this machine's ends the command with exit code 2 and a sentence."""
    process = serve(site, "--broker", broker.url, "--http", "192.0.2.1:8080")

    code = process.wait(DEADLINE_SECONDS)

    text = (site.folder / "serve.log").read_text()
    assert code == 2
    assert "cannot listen on 192.0.2.1:8080" in text
    assert "Traceback" not in text


def test_tokens_are_listed_and_revoked(site, capsys):
    """A name has one token; the list never shows a secret; a revoked one is gone; all of it is in the audit log."""
    assert run(["tokens", "add", "bob"]) == 0
    secret = capsys.readouterr().out.strip().splitlines()[-1]

    again = run(["tokens", "add", "bob"])
    assert run(["tokens", "list"]) == 0
    listed = capsys.readouterr().out
    assert run(["tokens", "revoke", "bob"]) == 0
    gone = run(["tokens", "revoke", "bob"])

    assert (again, gone) == (1, 1)
    assert secret.startswith("ep_")
    assert "bob" in listed
    assert "viewer" in listed
    assert secret not in listed
