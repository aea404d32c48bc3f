"""Looks at the machine for ``doctor``: disk, clock, accelerators, the port that models are served on.

Reads only; what it changes (a probe file in the state directory) it removes again.
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgepick_agent.core.findings import Finding, Level
from edgepick_agent.core.open_inference import SERVER_NAME
from edgepick_agent.core.service import LOCAL_PATH
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import mend_of

MIB = 1024**2
LITTLE_SPACE_BYTES = 256 * MIB
NO_SPACE_BYTES = 16 * MIB

VOLATILE = frozenset({"tmpfs", "ramfs", "overlay"})
"""File systems whose content is, or on boards with a read-only root may be, gone after a restart."""

RELEASED = 1_780_272_000
"""1 June 2026, 00:00 UTC: no clock that is right shows an earlier time to this version."""

EDGE_TPU_LIBRARIES = ("usr/lib/*/libedgetpu.so.1", "usr/lib/libedgetpu.so.1", "usr/local/lib/libedgetpu.so.1")
CORAL_USB = {"1a6e", "18d1"}
ANSWER_SECONDS = 3.0
"""A runner says who it is in milliseconds, but on a busy board, or while a runtime keeps Python's lock, much later."""


def inspect(settings: AgentSettings) -> Sequence[Finding]:
    """Return what there is to say about this machine; never raises for what it finds."""
    root = Path(settings.sysfs_root)
    return [
        *_state_dir(Path(settings.state_dir), root),
        _clock(time.time()),
        *_accelerator(settings.profile, root),
        *(_port(port) for port in (settings.runner.tcp_port,) if port is not None),
    ]


def _finding(check: str, level: Level, detail: str, mend: str = "") -> Finding:
    return Finding(check=check, level=level, detail=detail, mend=mend)


def _state_dir(folder: Path, root: Path) -> Iterator[Finding]:
    there = _nearest(folder)
    trouble = _not_writable(folder) if folder.is_dir() else _not_enterable(folder, there, root)
    if trouble is not None:
        yield trouble
        return
    kind = file_system(there, _read(Path("/proc/mounts")))
    if kind in VOLATILE:
        mend = "Put state_dir on a disk or card that keeps its content, or everything is fetched again at each start."
        yield _finding("state directory", Level.WARN, f"{folder} lies on {kind}, which may forget it", mend)
    else:
        state = "" if folder.is_dir() else " (will be made)"
        yield _finding("state directory", Level.OK, f"{folder} can be written{state}, on {kind}")
    yield _space(there)


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _not_writable(folder: Path) -> Finding | None:
    probe = folder / f".doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        detail = f"{folder}, which belongs to {_owner(folder)}: {(error.strerror or 'cannot be written').lower()}"
        mend = mend_of(error, "Look at the file system's health: dmesg")
        return _finding("state directory", Level.FAIL, detail, mend)
    return None


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except KeyError:
        return f"the user {folder.stat().st_uid}"


def _not_enterable(folder: Path, parent: Path, root: Path) -> Finding | None:
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return None
    detail = f"{folder}: does not exist, and may not be made in {parent}"
    return _finding("state directory", Level.FAIL, detail, f"sudo install -d -o {_account(root)} {folder}")


def _account(root: Path) -> str:
    """Return who runs the agent: the account of the installed service, else who asks."""
    found = re.search("^User=(.+)$", _read(root / LOCAL_PATH.removeprefix("/")), re.MULTILINE)
    return found[1] if found else os.environ.get("SUDO_USER") or os.environ.get("USER") or "edgepick"


def file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system that ``path`` lies on, by the text of /proc/mounts."""
    target = f"{path.resolve()}/"
    best = ("", "an unknown file system")
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if target.startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _space(folder: Path) -> Finding:
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    text = f"{free // MIB} MiB free"
    if free < NO_SPACE_BYTES:
        return _finding("disk space", Level.FAIL, text, "Make room: du -xh / | sort -h | tail -20")
    if free < LITTLE_SPACE_BYTES:
        return _finding(
            "disk space", Level.WARN, text, "A bundle needs its size twice while it is exchanged; make room."
        )
    return _finding("disk space", Level.OK, text)


def _clock(now: float) -> Finding:
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < RELEASED:
        mend = "timedatectl set-ntp true, or sudo date -s '...'; until then TLS fails and reports carry wrong times."
        return _finding("clock", Level.WARN, f"{shown}, which is before this version was made", mend)
    return _finding("clock", Level.OK, shown)


def _accelerator(profile: str, root: Path) -> Iterator[Finding]:
    if profile == "coral-usb-accelerator":
        yield from _edge_tpu(root, present=_coral_usb(root), what="Coral USB accelerator")
    elif profile == "coral-dev-board":
        yield from _edge_tpu(root, present=(root / "dev/apex_0").exists(), what="Edge TPU (/dev/apex_0)")
    elif profile.startswith("jetson-"):
        yield _jetson(root)
    else:
        yield _finding("accelerator", Level.OK, f"profile {profile!r} needs none")


def _edge_tpu(root: Path, *, present: bool, what: str) -> Iterator[Finding]:
    if present:
        yield _finding("accelerator", Level.OK, f"{what} is there")
    else:
        mend = "Plug it in (lsusb shows 1a6e:089a or 18d1:9302), or take a profile without it."
        yield _finding("accelerator", Level.FAIL, f"{what} was not found", mend)
    if not any(next(root.glob(pattern), None) for pattern in EDGE_TPU_LIBRARIES):
        mend = "sudo apt install libedgetpu1-std   (coral.ai/software)"
        yield _finding("edge tpu library", Level.FAIL, "libedgetpu.so.1 is not installed", mend)


def _coral_usb(root: Path) -> bool:
    return any(_read(path) in CORAL_USB for path in (root / "sys/bus/usb/devices").glob("*/idVendor"))


def _jetson(root: Path) -> Finding:
    nodes = [name for name in ("dev/nvhost-gpu", "dev/nvgpu", "dev/nvidia0") if (root / name).exists()]
    if nodes:
        return _finding("accelerator", Level.OK, f"GPU is there (/{nodes[0]})")
    mend = "Is JetPack installed, and, in a container, were the GPU's devices passed in?"
    return _finding("accelerator", Level.FAIL, "no GPU device was found", mend)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _port(port: int) -> Finding:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))  # and never listens, so that an agent that starts now is not disturbed
    except OSError as error:
        if _is_our_runner(port):
            return _finding("tcp port", Level.OK, f"{port} is answered by a runner")
        mend = f"sudo ss -ltnp 'sport = :{port}' names who has it: end that, or take another [runner] tcp_port; "
        mend += "then: sudo systemctl restart edgepick-agent"
        said = f"{port} cannot be served on: {os.strerror(error.errno or 0).lower()}; the socket in run/ is"
        return _finding("tcp port", Level.WARN, said, mend)
    return _finding("tcp port", Level.OK, f"{port} is free")


def _is_our_runner(port: int) -> bool:
    # Loads much, for a port that is taken only.
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/v2")
        said = json.loads(connection.getresponse().read(4096))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(said, dict) and said.get("name") == SERVER_NAME
