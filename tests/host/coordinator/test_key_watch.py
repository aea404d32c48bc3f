"""A service that begins anew because the keys were replaced: what may be in its way just then."""

from contextlib import contextmanager

import pytest

from edgepick_host.app import rollout_service
from edgepick_host.core.settings import HostSettings
from edgepick_host.errors import UnreachableError, VerificationError


class Session:
    """A coordinator that does nothing."""

    def step(self, _seconds: float) -> None: ...


@pytest.fixture
def sessions(monkeypatch, tmp_path):
    """Provide the list of what happens at each beginning of a session: an error, or ``None`` for a session."""
    monkeypatch.chdir(tmp_path)
    planned = []

    @contextmanager
    def session(_settings, *, say):
        found = planned.pop(0)
        if found is not None:
            raise found
        yield Session()

    monkeypatch.setattr(rollout_service, "coordinator_of", session)
    monkeypatch.setattr(rollout_service, "coordinator_at_work", lambda _settings: None)
    monkeypatch.setattr(rollout_service, "KeyWatch", ReplacedAtOnce)
    monkeypatch.setattr(rollout_service, "ATTEMPT_SECONDS", 0.0)
    return planned


class ReplacedAtOnce:
    """Keys that are replaced at every look."""

    def __init__(self, _settings, _say) -> None: ...

    def replaced(self) -> int:
        return 2


def serve(planned: list) -> list[str]:
    said: list[str] = []
    rollout_service.serve(HostSettings(), say=said.append, stopped=lambda: not planned)
    return said


@pytest.mark.parametrize("error", [VerificationError("half a rotation"), UnreachableError("the broker is away")])
def test_what_passes_by_itself_is_waited_for(sessions, error):
    """Once it has served, the service tries again until it can begin anew, and says what it waits for."""
    sessions.extend([None, error, error, None])

    said = serve(sessions)

    assert said.count(f"{error}; trying again") == 2
    assert sum("serving fleet" in line for line in said) == 2


def test_a_service_that_starts_says_at_once_what_is_wrong(sessions):
    """A person who starts it is told, instead of watching it try."""
    sessions.extend([VerificationError("the wrong keys"), None])

    with pytest.raises(VerificationError, match="the wrong keys"):
        serve(sessions)


def test_what_does_not_pass_ends_the_service(sessions, monkeypatch):
    """After so many attempts it ends with the reason, for its service manager to take over."""
    monkeypatch.setattr(rollout_service, "ATTEMPTS", 3)
    sessions.extend([None, *[VerificationError("the wrong keys")] * 4, None])

    with pytest.raises(VerificationError, match="the wrong keys"):
        serve(sessions)

    assert sessions == [None]
