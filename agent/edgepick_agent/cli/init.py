"""``edgepick-agent init``: a commented agent.toml for this machine."""

import contextlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import click

from edgepick_agent.cli.options import checked_name, json_option, sysfs_option
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.cli.site import detect, read_root
from edgepick_agent.config import describe, read_config
from edgepick_agent.core.boards import Board, device_name
from edgepick_agent.core.config_text import NewConfig, config_text
from edgepick_agent.core.settings import DEFAULT_CONFIG, DEFAULT_STATE
from edgepick_agent.errors import AgentError, ConfigError, StorageError

ROOT_NAME = "root.signed"
PORTS = {"mqtt": 1883, "mqtts": 8883}
BROKER = re.compile(r"(?:(?P<scheme>mqtts?)://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:]+)(?::(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the broker is."""

    host: str
    port: int
    tls: bool


def broker_address(_ctx: click.Context, _param: click.Parameter, value: str) -> BrokerAddress:
    """Return the address in ``HOST``, ``HOST:PORT``, ``mqtt://HOST[:PORT]`` or ``mqtts://HOST[:PORT]``."""
    match = BROKER.fullmatch(value)
    port = int((match and match["port"]) or PORTS[(match and match["scheme"]) or "mqtt"])
    if not match or not 1 <= port <= 65535:
        raise click.BadParameter(f"{value!r}; give HOST, HOST:PORT, mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    return BrokerAddress(host=match["host"].strip("[]"), port=port, tls=match["scheme"] == "mqtts")


@click.command()
@click.option("--device", callback=checked_name, help="Its id, unique in the fleet.  [default: the host name]")
@click.option("--fleet", callback=checked_name, help="The fleet.  [default: the one that --root names, else 'fleet']")
@click.option(
    "--broker",
    callback=broker_address,
    default="localhost",
    show_default=True,
    help="HOST[:PORT], or mqtts://HOST[:PORT] for TLS.",
)
@click.option(
    "--root",
    "root_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The fleet's root document; it is checked, and copied beside the configuration.",
)
@click.option("--profile", callback=checked_name, help="The kind of device.  [default: what is detected]")
@click.option("--state-dir", default=DEFAULT_STATE, show_default=True, help="Where the agent keeps everything.")
@click.option("--stand-in", is_flag=True, help="This machine only stands in for the board of --profile.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    envvar="EDGEPICK_AGENT_CONFIG",
    show_default=True,
    show_envvar=True,
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
@sysfs_option
def init(
    *,
    device: str | None,
    fleet: str | None,
    broker: BrokerAddress,
    root_file: Path | None,
    profile: str | None,
    state_dir: str,
    stand_in: bool,
    out: Path,
    force: bool,
    as_json: bool,
    sysfs_root: Path,
) -> None:
    """Write a commented agent.toml; the board is detected where it can be."""
    if out.exists() and not force:
        raise AgentError(f"{out} exists", hint="Add --force to replace it, or write another file with --out.")
    board = detect(sysfs_root)
    document = read_root(root_file).root if root_file else None
    if document and fleet and document.fleet != fleet:
        raise AgentError(
            f"{root_file} is the root document of fleet {document.fleet!r}, not of {fleet!r}",
            hint="Leave --fleet away, or give the other fleet's root document.",
        )
    new = NewConfig(
        device=device or device_name(platform.node()),
        fleet=fleet or (document.fleet if document else "fleet"),
        profile=profile or board.profile,
        state_dir=str(state_dir if state_dir == DEFAULT_STATE else Path(state_dir).absolute()),
        root_document=ROOT_NAME,
        broker_host=broker.host,
        broker_port=broker.port,
        tls=broker.tls,
        stand_in=stand_in or _stands_in(profile, board),
        remarks=(f"Configuration of one edgepick device; written for: {board.machine}",),
    )
    _write(out, config_text(new), root_file)
    if as_json:
        click.echo(as_json_text({"path": str(out), "config": new, "board": board}))
        return
    click.echo(_summary(new, board, out, asked=stand_in, root_copied=root_file is not None))


def _stands_in(profile: str | None, board: Board) -> bool:
    return profile is not None and profile != board.profile


def _write(out: Path, content: str, root_file: Path | None) -> None:
    """Write both files, the configuration only after it was read back without a problem."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _durably(part, content.encode())
        _check(part, out)
        if root_file:
            _copy(root_file, out.parent / ROOT_NAME)
        part.replace(out)
    except OSError as error:
        raise StorageError(
            f"{error.filename or out}: cannot be written: {error.strerror}",
            hint="Run it with sudo, or write elsewhere with --out FILE.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _check(part: Path, out: Path) -> None:
    problems = read_config(part, {}).problems
    if problems:
        raise ConfigError(describe(out, problems), hint="Nothing was written; give values that are allowed.")


def _copy(source: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(source)):
        part = target.with_name(f".{target.name}.part")
        _durably(part, source.read_bytes())
        part.replace(target)


def _durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _summary(new: NewConfig, board: Board, out: Path, *, asked: bool, root_copied: bool) -> str:
    lines = [f"found      {board.machine}", *(f"note       {note}" for note in board.notes)]
    lines += [f"device     {new.device} of fleet {new.fleet}", f"profile    {new.profile}"]
    if new.stand_in:
        why = "as asked" if asked else f"this machine looks like {board.profile!r}"
        lines.append(f"stand-in   yes ({why}): every figure will say that it is not from the real board")
    lines += [f"broker     {new.broker_host}:{new.broker_port}{' with TLS' if new.tls else ''}", f"written    {out}"]
    return "\n".join([*lines, "", "next:", *_next_steps(out, root_copied=root_copied)])


def _next_steps(out: Path, *, root_copied: bool) -> list[str]:
    config = "" if str(out) == DEFAULT_CONFIG else f" --config {out}"
    copy = [] if root_copied else [f"  copy the fleet's root document from the host to {out.parent / ROOT_NAME}"]
    return [
        *copy,
        f"  edgepick-agent doctor{config}",
        f"  edgepick-agent run{config or f' --config {DEFAULT_CONFIG}'}        # in the foreground",
        f"  sudo edgepick-agent service install{config}   # at every start",
    ]
