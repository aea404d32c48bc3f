"""What installing the systemd service would do, as a list of steps; pure, so that it can be shown first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgepick_agent.core import places
from edgepick_agent.core.settings import DEFAULT_STATE

UNIT = "edgepick-agent.service"
UNIT_FOLDER = "/etc/systemd/system"
UNIT_PATH = f"{UNIT_FOLDER}/{UNIT}"
LOCAL_FOLDER = f"{UNIT_FOLDER}/{UNIT}.d"
LOCAL_PATH = f"{LOCAL_FOLDER}/10-local.conf"

HIDDEN_HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome=yes hides, by systemd.exec(5)."""

TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - these are the folders that PrivateTmp=yes replaces

GROWING_PAUSE = 254
"""First systemd version with RestartSteps= and RestartMaxDelaySec=, by systemd.service(5)."""

PI = ("PrivateDevices=no", "DeviceAllow=/dev/vcio rw", "SupplementaryGroups=video")
JETSON = ("PrivateDevices=no", "DevicePolicy=auto", "SupplementaryGroups=video")
CORAL_USB = ("PrivateDevices=no", "DeviceAllow=char-usb_device rw", "SupplementaryGroups=plugdev")

DEVICES = {
    "raspberry-pi-3": PI,
    "raspberry-pi-4": PI,
    "raspberry-pi-5": PI,
    "raspberry-pi-zero-2w": PI,
    "coral-usb-accelerator": (*PI, *CORAL_USB[1:]),
    "coral-dev-board": ("PrivateDevices=no", "DeviceAllow=/dev/apex_0 rw", "SupplementaryGroups=apex"),
    "jetson-nano": JETSON,
    "jetson-tx2": JETSON,
    "jetson-xavier-nx": JETSON,
    "jetson-agx-xavier": JETSON,
    "jetson-orin-nano": JETSON,
    "jetson-agx-orin": JETSON,
}
"""Board as detected -> what its accelerator and sensors need beyond the shipped unit."""


GROUPS = "SupplementaryGroups="


def device_groups(board: str) -> tuple[str, ...]:
    """Return the groups that the service is in for a board's devices."""
    return tuple(line.removeprefix(GROUPS) for line in DEVICES.get(board, ()) if line.startswith(GROUPS))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """Replace a file."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a file; nothing happens if it is not there."""

    path: str

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommand:
    """Run a program; a failure ends the plan unless ``may_fail``."""

    arguments: tuple[str, ...]
    may_fail: bool = False

    def __str__(self) -> str:
        import shlex

        return f"run {shlex.join(self.arguments)}"


Step = WriteFile | Remove | RunCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """What the plan depends on.

    Attributes:
        unit_text: The shipped unit.
        user: Who runs the agent.
        user_exists: Whether that account is there already.
        python: Interpreter with edgepick.
        config: The configuration file, absolute.
        state_dir: Of the configuration.
        board: Profile of the board as detected.
        secrets: Files that only the user may read.
        readable: Everything else that the service reads: interpreter, configuration, documents.
        systemd_version: As ``systemctl --version`` tells; 0 without systemd.
        closed: Folders on the way to ``readable`` that other accounts may not enter.
    """

    unit_text: str
    user: str
    user_exists: bool
    python: str
    config: str
    state_dir: str
    board: str
    secrets: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    systemd_version: int = 0
    closed: tuple[str, ...] = ()


def plan_install(facts: ServiceFacts) -> tuple[Step, ...]:
    """Return the steps that install, enable and start the service; doing them again changes nothing."""
    account = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", facts.user)
    return (
        *(() if facts.user_exists else (RunCommand(arguments=account),)),
        *_state_steps(facts),
        *(RunCommand(arguments=("chown", facts.user, secret)) for secret in facts.secrets),
        WriteFile(path=UNIT_PATH, text=facts.unit_text),
        WriteFile(path=LOCAL_PATH, text=local_conf(facts)),
        RunCommand(arguments=("systemctl", "daemon-reload")),
        RunCommand(arguments=("systemctl", "enable", UNIT)),
        RunCommand(arguments=("systemctl", "restart", UNIT)),
    )


def plan_uninstall() -> tuple[Step, ...]:
    """Return the steps that stop and remove the service; state, configuration, account and other drop-ins stay."""
    return (
        RunCommand(arguments=("systemctl", "disable", "--now", UNIT), may_fail=True),
        Remove(path=LOCAL_PATH),
        Remove(path=UNIT_PATH),
        RunCommand(arguments=("rmdir", LOCAL_FOLDER), may_fail=True),  # it stays if somebody's own drop-in lies there
        RunCommand(arguments=("systemctl", "daemon-reload")),
    )


def _state_steps(facts: ServiceFacts) -> Iterable[Step]:
    """Yield what gives the account its folder and what root has left in it, but nothing else that may lie there.

    Systemd does the same for its StateDirectory= only where the folder itself is somebody else's.
    """
    yield RunCommand(arguments=("install", "-d", "-m", "0750", "-o", facts.user, facts.state_dir))
    own = (f"{facts.state_dir}/{name}" for name in places.EVERYTHING)
    # -h: no link is followed, as the account may have made it. What is not there makes it fail, after the others.
    yield RunCommand(arguments=("chown", "-Rh", f"{facts.user}:", *own), may_fail=True)


def local_conf(facts: ServiceFacts) -> str:
    """Return the drop-in with what is particular to this machine."""
    lines = [
        "# Written by `edgepick-agent service install`; run it again after moving anything named here.",
        "[Service]",
        f"User={facts.user}",
        "ExecStart=",
        f"ExecStart={quoted(facts.python)} -m edgepick_agent run --config {quoted(facts.config)}",
        *DEVICES.get(facts.board, ()),
    ]
    if facts.state_dir != DEFAULT_STATE:
        lines.append(f"ReadWritePaths={quoted(facts.state_dir)}")
    paths = (facts.python, facts.config, facts.state_dir, *facts.secrets, *facts.readable)
    if _below(paths, HIDDEN_HOMES):
        lines.append("ProtectHome=read-only")
    if _below(paths, TEMPORARY):
        lines.append("PrivateTmp=no")
    if facts.systemd_version >= GROWING_PAUSE:
        lines += ["RestartSteps=6", "RestartMaxDelaySec=120"]
    return "\n".join(lines) + "\n"


def _below(paths: Sequence[str], folders: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for path in paths for folder in folders)


def quoted(path: str) -> str:
    """Return a path as one word of a unit file: systemd.syntax(7) quoting, specifiers escaped."""
    text = path.replace("%", "%%").replace("$", "$$")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if escaped != path or any(c.isspace() or c in "';" for c in path) else path
