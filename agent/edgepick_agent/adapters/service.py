"""Reads what a service plan depends on, and carries a plan out."""

import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgepick_agent.core.service import UNIT, Remove, RunCommand, ServiceFacts, Step, WriteFile
from edgepick_agent.errors import AgentError, StorageError

IN_WHEEL = Path(__file__).resolve().parents[1] / "systemd"
IN_REPOSITORY = Path(__file__).resolve().parents[3] / "systemd"


def service_facts(
    *,
    user: str,
    config: str,
    state_dir: str,
    board: str,
    secrets: Sequence[str],
    readable: Sequence[str],
) -> ServiceFacts:
    """Return what a plan for this machine depends on."""
    return ServiceFacts(
        unit_text=unit_text(),
        user=user,
        user_exists=user_exists(user),
        python=sys.executable,
        config=config,
        state_dir=state_dir,
        board=board,
        secrets=tuple(secrets),
        readable=(*readable, sys.prefix, sys.base_prefix),
        systemd_version=systemd_version(),
        closed=tuple(_closed_to_others((config, sys.executable, f"{sys.base_prefix}/bin", *readable))),
    )


def _closed_to_others(paths: Sequence[str]) -> Iterator[str]:
    """Yield each folder on the way to ``paths`` that only its owner or group may enter."""
    folders = {parent for path in paths for parent in Path(path).parents}
    for folder in sorted(folders):
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            yield str(folder)


def unit_text() -> str:
    """Return the shipped unit: from the installed package, or from the repository of an editable install.

    Raises:
        AgentError: It is in neither place.
    """
    for folder in (IN_WHEEL, IN_REPOSITORY):
        if (folder / UNIT).is_file():
            return (folder / UNIT).read_text(encoding="utf-8")
    raise AgentError(
        f"{UNIT} is missing from this installation", hint="pip install --force-reinstall 'edgepick[agent]'"
    )


def user_exists(name: str) -> bool:
    """Return whether there is such an account."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def systemd_version() -> int:
    """Return the version of the systemd on this machine; 0 if there is none."""
    try:
        answer = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"systemd (\d+)", answer.stdout)
    return int(found[1]) if found else 0


def carry_out(steps: Iterable[Step]) -> None:
    """Do the steps in order.

    Raises:
        StorageError: A file cannot be written or removed.
        AgentError: A program is missing or failed.
    """
    for step in steps:
        if isinstance(step, RunCommand):
            _run(step)
        else:
            _change(step)


def _change(step: WriteFile | Remove) -> None:
    path = Path(step.path)
    try:
        if isinstance(step, WriteFile):
            _write(path, step.text)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: {(error.strerror or 'failed').lower()}",
            hint="The steps before it are done; mend this and run it again.",
        ) from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(0o644)
    part.replace(path)


def _run(step: RunCommand) -> None:
    try:
        answer = subprocess.run(step.arguments, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise AgentError(
            f"{step.arguments[0]} is not installed", hint="Install it, or do the steps that --dry-run prints by hand."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AgentError(
            f"{' '.join(step.arguments)}: no answer within 120 s", hint="journalctl -u edgepick-agent"
        ) from error
    if answer.returncode and not step.may_fail:
        said = (answer.stderr or answer.stdout).strip().replace("\n", "; ")
        raise AgentError(
            f"{' '.join(step.arguments)}: exit code {answer.returncode}: {said}",
            hint="journalctl -u edgepick-agent -n 50 shows what the agent said.",
        )
