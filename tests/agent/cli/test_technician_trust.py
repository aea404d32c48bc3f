"""Whose signatures count on this device, as its commands tell it without asking the agent."""

import dataclasses
from pathlib import Path

import pytest

from edgepick_agent import app
from edgepick_agent.cli import site
from edgepick_agent.cli.doctor import examine, in_the_way
from edgepick_agent.config import load_settings
from edgepick_agent.core import places
from edgepick_agent.core.advice import advise
from edgepick_agent.core.findings import Finding, Level
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.core.state import AgentState, Lineage, encode_state
from edgepick_agent.errors import RefusedError
from edgepick_wire import codec
from edgepick_wire.envelope import Role
from edgepick_wire.ids import digest_of
from edgepick_wire.trust import RootDocument

NOBODY = Role(threshold=1, keys=("ab" * 32,))


@pytest.fixture
def settings(config_file) -> AgentSettings:
    return load_settings(config_file, {})


@pytest.fixture
def lost(fleet) -> RootDocument:
    """Provide version 7 of the fleet's root document, by keys that nobody has."""
    return dataclasses.replace(fleet.root, version=7, root=NOBODY, release=NOBODY, campaign=NOBODY)


def keep(settings: AgentSettings, *documents: RootDocument) -> None:
    """Leave the state of an agent that began with the first of them and follows the last."""
    digests = tuple(digest_of(codec.encode(document)) for document in documents)
    lineage = Lineage(fleet=documents[0].fleet, campaign=documents[0].campaign, digests=digests)
    folder = Path(settings.state_dir)
    folder.mkdir()
    (folder / places.STATE).write_bytes(encode_state(AgentState(root=documents[-1], lineage=lineage)))


def told(config_file: Path) -> Finding:
    """Return what the doctor says about the root document."""
    return next(found for found in examine(config_file, {}, progress=False) if found.check == "root document")


@pytest.fixture(autouse=True)
def no_runtime(monkeypatch):
    """Spare the doctor a process that looks for runtimes."""
    monkeypatch.setattr(app, "available_runtimes", lambda _settings: ())


def test_the_version_that_is_followed_is_named(config_file, settings, fleet, lost):
    """Beside the document that the device was given, the doctor names the one whose keys count."""
    keep(settings, fleet.root, lost)

    found = told(config_file)

    assert found.level is Level.OK
    assert found.detail == "version 1 of fleet 'farm', signed by itself; version 7 is followed"


def test_a_root_document_that_the_agent_did_not_begin_with_is_found(config_file, settings, lost):
    """One that was put there since is no failure, but its keys count only after a restart, and ``status`` says so."""
    keep(settings, lost)

    found = told(config_file)
    status = site.status(settings)

    assert found.level is Level.WARN
    assert "not the one that the agent began with" in found.detail
    assert "systemctl restart" in " ".join(advise(status, in_the_way(settings, status)))


def test_a_bundle_is_judged_by_the_document_that_a_person_put_here(settings, lost, bundle_file):
    """As the agent will judge it: what was followed before no longer counts."""
    keep(settings, lost)

    manifest, _ = site.read_bundle(bundle_file(), settings)

    assert manifest.version == "1"


def test_a_bundle_is_judged_by_the_keys_that_were_followed(settings, fleet, lost, bundle_file):
    """A release key that the fleet has replaced since brings nothing in."""
    keep(settings, fleet.root, lost)

    with pytest.raises(RefusedError, match="0 of 1 needed signatures"):
        site.read_bundle(bundle_file(), settings)
