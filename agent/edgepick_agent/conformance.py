"""The agent behind the three commands of the conformance kit (``edgepick conformance run``, docs/conformance.md).

python -m edgepick_agent.conformance init DIR CONTEXT.json | run DIR | status DIR

Configures and starts the agent as anybody would; nothing of it is different from ``edgepick-agent run``.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepick_agent.app import read_status
from edgepick_agent.config import read_config, require_settings
from edgepick_agent.core.control import AgentStatus
from edgepick_agent.errors import AgentError
from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.version import __version__

CONFIG = "agent.toml"
USAGE = __doc__.splitlines()[2]
DONE, FAILED, BAD_USAGE, NOT_RUNNING = 0, 1, 2, 3

MODULES = {"tflite": ("ai_edge_litert", "tflite_runtime", "tflite_micro"), "onnx": ("onnxruntime",)}
"""Capability -> what must be installed, one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long to wait for what, so that a run does not take hours."""

    fetch_timeout_seconds: float
    confirm_seconds: float
    reconnect_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the kit says about the device that this agent is to be."""

    fleet: str
    device: str
    profile: str
    root_document: str
    broker: Broker
    pace: Pace


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of one of the three commands."""
    match list(sys.argv[1:] if arguments is None else arguments):
        case ["init", folder, context]:
            return _said(lambda: init(Path(folder), Path(context)))
        case ["run", folder]:
            return run(Path(folder))
        case ["status", folder]:
            return _said(lambda: status(Path(folder)))
    sys.stderr.write(f"usage: {USAGE}\n")
    return BAD_USAGE


def init(folder: Path, context: Path) -> int:
    """Write the agent's configuration into ``folder`` and say what it can do."""
    given = codec.decode_document(Context, context.read_bytes())
    (folder / CONFIG).write_text(configuration(given, folder / "state"), encoding="utf-8")
    can = [word for word, modules in MODULES.items() if any(map(importlib.util.find_spec, modules))]
    _print({"agent": f"edgepick-agent {__version__}", "capabilities": [*can, *(["golden"] if can else []), "reports"]})
    return DONE


def configuration(given: Context, state: Path) -> str:
    """Return the text of ``agent.toml``."""
    tables: dict[str, dict[str, object]] = {
        "": {
            "device": given.device,
            "fleet": given.fleet,
            "profile": given.profile,
            "state_dir": str(state.absolute()),
            "root_document": given.root_document,
            "stand_in": True,
        },
        "broker": {
            "host": given.broker.host,
            "port": given.broker.port,
            "reconnect_max_seconds": given.pace.reconnect_seconds,
        },
        "fetch": {"timeout_seconds": given.pace.fetch_timeout_seconds, "retries": 10},
        "runner": {"confirm_seconds": given.pace.confirm_seconds, "health_interval_seconds": 0.1},
    }
    lines = [line for name, table in tables.items() for line in _table(name, table)]
    return "\n".join(lines) + "\n"


def _table(name: str, table: dict[str, object]) -> list[str]:
    head = [f"[{name}]"] if name else []
    return head + [f"{key} = {json.dumps(value)}" for key, value in table.items()]


def run(folder: Path) -> int:
    """Become the agent; does not return."""
    command = [sys.executable, "-m", "edgepick_agent", "run", "--config", str(folder / CONFIG)]
    os.execv(command[0], command)  # noqa: S606 - the kit's SIGTERM must reach the agent itself


def status(folder: Path) -> int:
    """Say what the agent runs; ``NOT_RUNNING`` if it does not answer."""
    settings = require_settings(read_config(folder / CONFIG, os.environ))
    found = read_status(settings)
    if not found.running:
        return NOT_RUNNING
    _print(answer(found))
    return DONE


def answer(found: AgentStatus) -> dict[str, object]:
    """Return the status as the kit wants it."""
    models = [
        {
            "model": m.model,
            "phase": m.phase.value,
            "active": m.active,
            "refusal": m.refusal.code.value if m.refusal else None,
        }
        for m in found.models
    ]
    return {"sequence": found.sequence, "security_epoch": found.security_epoch, "models": models}


def _said(command: Callable[[], int]) -> int:
    try:
        return command()
    except (AgentError, WireError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED


def _print(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    sys.exit(main())
