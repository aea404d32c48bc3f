"""``agent.toml``, and the environment over it."""

import os
from pathlib import Path
from tempfile import gettempdir

from edgepick_agent.config import describe, read_config, values_of
from edgepick_agent.core.config_text import NewConfig, config_text
from edgepick_agent.errors import ConfigError

FOLDER = Path("/dev/shm" if Path("/dev/shm").is_dir() else gettempdir())
NEW = NewConfig(
    device="pi-1",
    fleet="demo",
    profile="generic-linux",
    state_dir="/var/lib/edgepick-agent",
    root_document="root.signed",
    broker_host="127.0.0.1",
    broker_port=8883,
    tls=True,
    stand_in=False,
)
SEEDS = [
    config_text(NEW).encode(),
    b'device = "a"\n[broker]\nhost = "h"\nport = 1\n[runner]\nmax_failures = 3\n[labels]\na = "b"\n',
    b"device = [1, {a = 1979-05-27T07:32:00Z}]\nbroker = nan\n",
]


def one(data: bytes) -> None:
    """Read: settings or problems that can be told, and no other error than one for people."""
    path = FOLDER / f"edgepick-fuzz-{os.getpid()}.toml"
    path.write_bytes(data)
    try:
        loaded = read_config(path, {"EDGEPICK_AGENT_DEVICE": data[:20].decode("latin-1")})
    except ConfigError:
        return
    finally:
        path.unlink()
    assert (loaded.settings is None) == bool(loaded.problems)
    describe(path, (*loaded.problems, *loaded.warnings, *loaded.missing_files)) if loaded.problems else ""
    if loaded.settings is not None:
        values_of(loaded.settings)
