"""Fixtures of the technician's commands: a runner for them, signed root documents, configurations."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from nacl.signing import SigningKey

from edgepick_agent.cli.commands import cli
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature
from edgepick_wire.trust import RootDocument


@dataclass(frozen=True)
class Fleet:
    """A fleet's keys (one for every role) and its root document."""

    key: SigningKey
    root: RootDocument

    def sign(self, kind: DocumentType, payload: bytes) -> bytes:
        signature = self.key.sign(envelope.signed_bytes(kind, payload)).signature
        entry = Signature(key_id=envelope.key_id(self.public), signature=signature.hex())
        return envelope.pack(Envelope(type=kind, payload=payload, signatures=(entry,)))

    @property
    def public(self) -> str:
        return bytes(self.key.verify_key).hex()


@pytest.fixture
def fleet() -> Fleet:
    """Provide a fleet called "farm"."""
    key = SigningKey.generate()
    role = Role(threshold=1, keys=(bytes(key.verify_key).hex(),))
    return Fleet(key=key, root=RootDocument(fleet="farm", version=1, root=role, release=role, campaign=role))


@pytest.fixture
def root_file(fleet: Fleet, tmp_path: Path) -> Path:
    """Provide the fleet's root document as a file."""
    path = tmp_path / "usb" / "root.signed"
    path.parent.mkdir()
    path.write_bytes(fleet.sign(DocumentType.ROOT, codec.encode(fleet.root)))
    return path


@pytest.fixture
def config_file(root_file: Path, tmp_path: Path) -> Path:
    """Provide a valid configuration whose broker is not there."""
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""device = "pi-7"
fleet = "farm"
profile = "generic-linux"
state_dir = "state"
root_document = {json.dumps(str(root_file))}

[broker]
host = "127.0.0.1"
port = 1
"""
    )
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Provide a function that runs one command in this process, without the caller's environment."""
    for name in ("EDGEPICK_AGENT_CONFIG", "EDGEPICK_AGENT_VERBOSE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, **options: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments], **options)

    return run
