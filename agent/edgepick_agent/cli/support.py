"""``edgepick-agent support-bundle``: what somebody else needs to help, in one file, and nothing that is secret."""

import io
import os
import platform
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.doctor import examine
from edgepick_agent.cli.failures import explain
from edgepick_agent.cli.log_lines import as_text
from edgepick_agent.cli.logs import latest
from edgepick_agent.cli.options import config_option, json_option
from edgepick_agent.cli.render import as_json_text, pairs, size
from edgepick_agent.config import Loaded, read_config, values_of
from edgepick_agent.core.redaction import redacted, told
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import ConfigError, StorageError
from edgepick_wire.version import __version__

LOG_LINES = 2000
MOST_FILE_BYTES = 1_000_000
STATE_FILES = ("state.json", "runtimes.json")
MACHINE_FILES = ("/etc/os-release", "/proc/meminfo", "/proc/loadavg", "/proc/device-tree/model")
Maker = Callable[[], bytes]


@click.command("support-bundle")
@config_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: edgepick-DEVICE-TIME.tar.gz]")
@json_option
def support_bundle(*, config_file: Path, out: Path | None, as_json: bool) -> None:
    """Collect status, checks, configuration and log into one file to send to somebody.

    It holds no password, no key, no certificate and no model; it says what it holds. Of a device whose configuration
    cannot be used, it holds why, and what is known of the machine; of an agent that hangs, that it does.
    """
    loaded, configuration = _configuration(config_file)
    settings = loaded.settings if loaded else None
    name = f"edgepick-{settings.device if settings else platform.node()}"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = out or Path(f"{name}-{stamp}.tar.gz")
    makers = {"config.json": lambda: as_json_text(configuration).encode(), **_members(settings, config_file)}
    made = {name: _made(make) for name, make in makers.items()}
    hidden = loaded.secrets if loaded else frozenset()
    members = {name: redacted(data, hidden) for name, data in made.items() if data}
    _write(target, name, members)
    if as_json:
        click.echo(as_json_text({"path": str(target), "members": {name: len(data) for name, data in members.items()}}))
        return
    click.echo(pairs(((name, size(len(data))) for name, data in members.items()), width=24))
    click.echo(f"{target}: look through it before you send it (tar -xzf)")


def _configuration(config_file: Path) -> tuple[Loaded | None, dict[str, object]]:
    """Return what the file says, if it can be read, and every value that may be told, or what is wrong."""
    try:
        loaded = read_config(config_file, os.environ)
    except ConfigError as error:
        return None, {"problems": [str(error)]}
    if loaded.settings is None:
        return loaded, {"problems": [str(problem) for problem in loaded.problems]}
    return loaded, told(values_of(loaded.settings))


def _members(settings: AgentSettings | None, config_file: Path) -> dict[str, Maker]:
    """Return what makes each member but the configuration; one that comes out empty is left out."""
    makers: dict[str, Maker] = {
        "doctor.json": lambda: as_json_text(list(examine(config_file, os.environ, progress=False))).encode(),
        "versions.json": lambda: as_json_text(_versions()).encode(),
        **{f"machine{path.replace('/', '_')}": partial(_content, Path(path)) for path in MACHINE_FILES},
    }
    return makers | (_of_the_agent(settings) if settings is not None else {})


def _of_the_agent(settings: AgentSettings) -> dict[str, Maker]:
    return {
        "status.json": lambda: as_json_text(site.status(settings)).encode(),
        **{name: partial(_content, Path(settings.state_dir) / name) for name in STATE_FILES},
        "log.txt": lambda: _log(settings),
    }


def _made(make: Maker) -> bytes:
    """Return what a member holds; if it cannot be made, why."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - what ails this device must not keep the rest from who could help
        message, hint, _ = explain(error)
        return as_json_text({"error": message, "hint": hint}).encode()


def _versions() -> dict[str, object]:
    return {
        "edgepick": __version__,
        "python": sys.version,
        "machine": platform.machine(),
        "kernel": platform.release(),
    }


def _content(path: Path) -> bytes:
    """Return the beginning of a file; nothing of one that is not there."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_FILE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def _log(settings: AgentSettings) -> bytes:
    said, _ = latest(site.log_files(settings), lines=LOG_LINES)
    return "".join(f"{as_text(line, dated=True)}\n" for line in said).encode()


def _write(target: Path, folder: str, members: dict[str, bytes]) -> None:
    """Write the archive whole or not at all, for its owner only."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                for name, data in members.items():
                    entry = tarfile.TarInfo(f"{folder}/{name}")
                    entry.size, entry.mtime = len(data), int(time.time())
                    archive.addfile(entry, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{target}: {error.strerror or error}", hint="Name another place with --out.") from error
