"""The demo's folder: made new for every run, never on top of somebody's files; and the host's settings in it."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edgepick_host.config import read_settings
from edgepick_host.core.settings import HostSettings
from edgepick_host.demo.fleet import FLEET, fits
from edgepick_host.errors import ConfigError, StateError

MARKER = ".edgepick-demo"
"""A folder that holds this file was made by the demo, and may be cleared by it."""

MODEL_NAME = "digits"
CONFIG = """\
# The demo's host. Try: edgepick --config {file} devices list
fleet = "{fleet}"
database = "host.db"
keys = "keys"

[broker]
url = "{url}"
"""


def data(name: str) -> Path:
    """Return the path of a file that is shipped with the demo ("digits.tflite", "evaluation.npz", ...)."""
    return Path(str(files("edgepick_host.demo") / "data" / name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where everything of one run lies.

    Attributes:
        folder: Absolute; holds all but, if its path is long, the agents' state.
        states: The agents' state directories; short enough for the sockets in them.
    """

    folder: Path
    states: Path

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.folder / "report.html"

    @property
    def result(self) -> Path:
        """The same for programs."""
        return self.folder / "result.json"

    @property
    def config(self) -> Path:
        """The host's configuration, to be used by hand too."""
        return self.folder / "edgepick.toml"

    @property
    def keys(self) -> Path:
        """The fleet's keys and root document."""
        return self.folder / "keys"

    @property
    def variants(self) -> Path:
        """What compression made."""
        return self.folder / "variants"

    @property
    def wrong_variants(self) -> Path:
        """The variant that answers wrongly."""
        return self.folder / "variants-wrong"

    def close(self) -> None:
        """Remove what lies outside the folder."""
        if not self.states.is_relative_to(self.folder):
            shutil.rmtree(self.states, ignore_errors=True)


def open_workspace(folder: Path) -> Workspace:
    """Return an empty workspace at ``folder``; what an earlier run of the demo left there is removed.

    Raises:
        ConfigError: The folder holds something that the demo did not make.
        StateError: It cannot be written.
    """
    folder = folder.absolute()
    try:
        _clear(folder)
        states = folder / "state"
        if not fits(states):
            states = Path(tempfile.mkdtemp(prefix="edgepick-"))
        states.mkdir(exist_ok=True)
    except OSError as error:
        raise StateError(f"{folder}: {(error.strerror or str(error)).lower()}", hint="Choose another --out.") from error
    return Workspace(folder=folder, states=states)


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ConfigError(
            f"{folder}: holds files that the demo did not make", hint="Choose an empty or new folder with --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()


def write_settings(workspace: Workspace, broker_url: str) -> HostSettings:
    """Return the demo's settings, after writing them to its configuration file; the user's own have no say."""
    text = CONFIG.format(file=workspace.config, fleet=FLEET, url=broker_url)
    workspace.config.write_text(text, encoding="utf-8")
    return read_settings(workspace.config, environment={})


def clean_environment() -> dict[str, str]:
    """Return the environment without edgepick's own variables, which are about the user's fleet."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EDGEPICK_")}
