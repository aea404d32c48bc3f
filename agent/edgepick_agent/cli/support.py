"""``edgepick-agent support-bundle``: what somebody else needs to help, in one file, and nothing that is secret."""

import io
import os
import platform
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.doctor import examine
from edgepick_agent.cli.log_lines import as_text
from edgepick_agent.cli.logs import latest
from edgepick_agent.cli.options import config_option, json_option
from edgepick_agent.cli.render import as_json_text, pairs, size
from edgepick_agent.config import read_config, values_of
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import ConfigError, StorageError
from edgepick_wire.version import __version__

LOG_LINES = 2000
MOST_FILE_BYTES = 1_000_000
STATE_FILES = ("state.json", "runtimes.json")
MACHINE_FILES = ("/etc/os-release", "/proc/meminfo", "/proc/loadavg", "/proc/device-tree/model")
SECRET = frozenset({"broker.username", "broker.password_file", "broker.key_file"})
"""Values that are not told; files that they name are never opened."""
REDACTED = "(redacted)"


@click.command("support-bundle")
@config_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: edgepick-DEVICE-TIME.tar.gz]")
@json_option
def support_bundle(*, config_file: Path, out: Path | None, as_json: bool) -> None:
    """Collect status, checks, configuration and log into one file to send to somebody.

    It holds no password, no key, no certificate and no model; it says what it holds. Of a device whose configuration
    cannot be used, it holds why, and what is known of the machine.
    """
    settings, configuration = _configuration(config_file)
    name = f"edgepick-{settings.device if settings else platform.node()}"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = out or Path(f"{name}-{stamp}.tar.gz")
    members = {"config.json": as_json_text(configuration).encode(), **dict(_members(settings, config_file))}
    _write(target, name, members)
    if as_json:
        click.echo(as_json_text({"path": str(target), "members": {name: len(data) for name, data in members.items()}}))
        return
    click.echo(pairs(((name, size(len(data))) for name, data in members.items()), width=24))
    click.echo(f"{target}: look through it before you send it (tar -xzf)")


def _configuration(config_file: Path) -> tuple[AgentSettings | None, dict[str, object]]:
    """Return the settings if they can be used, and every value but the secret ones, or what is wrong.

    Whoever reads it still sees which of the secret ones are set.
    """
    try:
        loaded = read_config(config_file, os.environ)
    except ConfigError as error:
        return None, {"problems": [str(error)]}
    if loaded.settings is None or loaded.problems:
        return None, {"problems": [f"{problem.key}: {problem.text}" for problem in loaded.problems]}
    values = values_of(loaded.settings)
    shown = {key: REDACTED if key in SECRET and value is not None else value for key, value in values.items()}
    return loaded.settings, shown


def _members(settings: AgentSettings | None, config_file: Path) -> Iterator[tuple[str, bytes]]:
    yield "doctor.json", as_json_text(list(examine(config_file, os.environ, progress=False))).encode()
    yield "versions.json", as_json_text(_versions()).encode()
    for path in MACHINE_FILES:
        yield from _file(f"machine{path.replace('/', '_')}", Path(path))
    if settings is not None:
        yield from _of_the_agent(settings)


def _of_the_agent(settings: AgentSettings) -> Iterator[tuple[str, bytes]]:
    yield "status.json", as_json_text(site.status(settings)).encode()
    for name in STATE_FILES:
        yield from _file(name, Path(settings.state_dir) / name)
    yield from _log(settings)


def _versions() -> dict[str, object]:
    return {
        "edgepick": __version__,
        "python": sys.version,
        "machine": platform.machine(),
        "kernel": platform.release(),
    }


def _file(name: str, path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as file:
            yield name, file.read(MOST_FILE_BYTES)
    except OSError:
        return


def _log(settings: AgentSettings) -> Iterator[tuple[str, bytes]]:
    said, _ = latest(site.log_files(settings), lines=LOG_LINES)
    if said:
        yield "log.txt", "".join(f"{as_text(line, dated=True)}\n" for line in said).encode()


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
