"""The demo's fleet as data, and each agent's configuration file."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepick_host.demo.processes import Child

FLEET = "demo"
CONFIRM_SECONDS = 1.0
"""A demo does not wait as long as a fleet should."""

RECONNECT_SECONDS = 2.0
WINDOW = 8
"""Chunks in flight; with the demo's small chunks this leaves something to resume after a kill."""

MAX_STATE_BYTES = 85
"""Longest path of a state directory that an agent accepts: its sockets lie in it, and their paths are limited."""

TFLITE_RUNTIME, LITERT, ONNXRUNTIME, TFLM = "tflite_runtime", "litert", "onnxruntime", "tflm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One agent.

    Attributes:
        device: Its id.
        profile: The kind of device that it stands in for.
        runtimes: Runtimes that it may use, preferred first.
        own_python: It runs its models in the environment with tflite-runtime, where there is one.
        slow_link: It reaches the broker over a slow link, and is the one that is killed while downloading.
        site: A label.
    """

    device: str
    profile: str
    runtimes: tuple[str, ...]
    own_python: bool = False
    slow_link: bool = False
    site: str


MEMBERS = (
    Member(device="pi4-kitchen", profile="raspberry-pi-4", runtimes=(LITERT, ONNXRUNTIME), site="house"),
    Member(device="pi4-hall", profile="raspberry-pi-4", runtimes=(LITERT, ONNXRUNTIME), slow_link=True, site="house"),
    Member(device="pi3-garage", profile="raspberry-pi-3", runtimes=(TFLITE_RUNTIME,), own_python=True, site="yard"),
    Member(device="coral-gate", profile="coral-usb-accelerator", runtimes=(LITERT,), site="yard"),
    Member(device="jetson-dock", profile="jetson-orin-nano", runtimes=(ONNXRUNTIME,), site="dock"),
    Member(device="mcu-pump", profile="mcu-cortex-m4", runtimes=(TFLM,), site="dock"),
)

PROFILES = tuple(dict.fromkeys(member.profile for member in MEMBERS))
"""The kinds of device in the fleet, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all agents of one demo have in common.

    Attributes:
        folder: Each agent has a folder of its own in it, for its configuration and its log.
        states: Each agent keeps its state in a folder of its own in it; short, see :data:`MAX_STATE_BYTES`.
        root_document: The fleet's signed root document.
        broker_port: Of the broker, on the loopback interface.
        tflite_python: Interpreter with tflite-runtime; ``None`` if there is none.
    """

    folder: Path
    states: Path
    root_document: Path
    broker_port: int
    tflite_python: Path | None = None

    def home(self, member: Member) -> Path:
        """Return the folder of one agent."""
        return self.folder / member.device

    def state(self, member: Member) -> Path:
        """Return where one agent keeps everything."""
        return self.states / member.device


def fits(states: Path) -> bool:
    """Return whether every agent's state directory under ``states`` is short enough."""
    return all(len(os.fsencode(states / member.device)) <= MAX_STATE_BYTES for member in MEMBERS)


def agent_toml(member: Member, site: Site, *, port: int | None = None) -> str:
    """Return the content of one agent's ``agent.toml``.

    Args:
        member: The agent.
        site: Where it runs.
        port: Port under which it reaches the broker, if not the broker's own (a slow link).
    """
    tables: Mapping[str, Mapping[str, object]] = {
        "": {
            "device": member.device,
            "fleet": FLEET,
            "profile": member.profile,
            "state_dir": str(site.state(member)),
            "root_document": str(site.root_document),
            "stand_in": True,
        },
        "labels": {"site": member.site},
        "broker": {
            "host": "127.0.0.1",
            "port": port or site.broker_port,
            "reconnect_max_seconds": RECONNECT_SECONDS,
        },
        "fetch": {"window": WINDOW},
        "runner": {"confirm_seconds": CONFIRM_SECONDS, **_runner(member, site)},
    }
    return "\n".join(_table(name, values) for name, values in tables.items())


def _runner(member: Member, site: Site) -> dict[str, object]:
    """Return where and with what a member runs its models: without tflite-runtime it takes LiteRT instead."""
    if not member.own_python:
        return {"runtimes": list(member.runtimes)}
    if site.tflite_python is None:
        return {"runtimes": [LITERT]}
    return {"runtimes": list(member.runtimes), "python": str(site.tflite_python)}


def _table(name: str, values: Mapping[str, object]) -> str:
    """Return a TOML table; JSON's strings, numbers, booleans and lists of strings are TOML's too."""
    head = [f"[{name}]"] if name else []
    return "\n".join([*head, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]) + "\n"


def install(member: Member, site: Site, *, port: int | None = None) -> Child:
    """Return an agent whose configuration is written; it is not started."""
    home = site.home(member)
    home.mkdir(parents=True, exist_ok=True)
    config = home / "agent.toml"
    config.write_text(agent_toml(member, site, port=port), encoding="utf-8")
    command = (sys.executable, "-m", "edgepick_agent", "run", "--config", str(config))
    return Child(name=member.device, command=command, log=home / "agent.log")
