"""Fixtures of the technician's commands: a runner for them, signed root documents, configurations."""

import getpass
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from nacl.signing import SigningKey

from edgepick_agent.cli.commands import cli
from edgepick_wire import bundle, codec, envelope
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature
from edgepick_wire.ids import digest_of
from edgepick_wire.limits import CHUNK_BYTES
from edgepick_wire.manifest import FileEntry, Manifest, ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.trust import RootDocument

MODEL = Path(__file__).parents[3] / "host_tools/edgepick_host/demo/data/digits.tflite"


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


def entry_of(name: str, data: bytes) -> FileEntry:
    chunks = [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
    index = b"".join(bytes.fromhex(digest_of(chunk)) for chunk in chunks)
    return FileEntry(
        name=name, size=len(data), sha256=digest_of(data), chunk_size=CHUNK_BYTES, index=(digest_of(index),)
    )


@pytest.fixture
def bundle_file(fleet: Fleet, tmp_path: Path) -> Callable[..., Path]:
    """Provide a function that writes the demo's model as a signed bundle file."""

    def write(version: str = "1", *, content: bytes | None = None, **changes: object) -> Path:
        data = MODEL.read_bytes()
        fields = {
            "fleet": "farm", "model": "digits", "version": version, "variant": "float32", "security_epoch": 0,
            "profiles": ("generic-linux",), "format": ModelFormat.TFLITE, "model_file": "model.tflite",
            "runtimes": (RuntimeChoice(name=RuntimeName.LITERT),), "files": (entry_of("model.tflite", data),),
        }  # fmt: skip
        signed = fleet.sign(DocumentType.MANIFEST, codec.encode(Manifest(**{**fields, **changes})))
        path = tmp_path / f"digits-{version}{bundle.SUFFIX}"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            members = {bundle.MANIFEST_MEMBER: signed, f"{bundle.FILES_PREFIX}model.tflite": content or data}
            for name, member in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(member)
                archive.addfile(info, io.BytesIO(member))
        return path

    return write


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


@pytest.fixture
def start_broker(broker: Any, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Provide a function that starts a mosquitto with extra configuration lines."""
    if broker.kind != "mosquitto":
        pytest.skip("mosquitto is not installed")
    running: list[Any] = []

    def start(extra: str) -> Any:
        folder = tmp_path / f"broker-{len(running)}"
        folder.mkdir()
        # Started by root, mosquitto would become a user who may not read our files.
        lines = f"user {getpass.getuser()}\n{extra}"
        running.append(type(broker)(port=_free_port(), folder=folder, kind="mosquitto", extra=lines))
        running[-1].start()
        return running[-1]

    yield start
    for one in running:
        one.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SYSTEMD = {"INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET"}


@pytest.fixture
def agent(config_file: Path, command: Callable[..., Result], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Provide a function that starts an agent and returns once it answers; what is left running is ended."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*before: str, **environ: str) -> subprocess.Popen[bytes]:
        clean = {key: value for key, value in os.environ.items() if key not in SYSTEMD}
        arguments = [*before, sys.executable, "-m", "edgepick_agent", "run", "--config", str(config_file)]
        with (tmp_path / f"agent-{len(running)}.log").open("w") as log:
            running.append(subprocess.Popen(arguments, stderr=log, stdout=log, env={**clean, **environ}))
        deadline = time.monotonic() + 60
        while not _answers(command, config_file):
            assert running[-1].poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def _answers(command: Callable[..., Result], config_file: Path) -> bool:
    found = command("status", "-c", config_file, "--json")
    return found.exit_code == 0 and bool(json.loads(found.stdout)["status"]["running"])
