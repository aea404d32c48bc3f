"""What a technician does with ``sudo`` in the state directory of the service, while the service is stopped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
WITHIN = 'mount --bind "$1" /mnt && mount --bind "$2" /mnt/python && cd / && shift 2 && exec "$@"'
AS_THE_SERVICE = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


@pytest.fixture
def run(tmp_path):
    """Provide a function that runs Python where every account can reach it and the test's folder, at /mnt."""
    tmp_path.chmod(0o755)
    (tmp_path / "python").mkdir()
    python = Path("/mnt/python") / Path(sys.executable).resolve().relative_to(sys.base_prefix)
    packages = (path for path in sys.path if path and not path.startswith(sys.base_prefix))
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"}

    def call(*arguments: str, through: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        within = ("unshare", "-m", "sh", "-c", WITHIN, "within", str(tmp_path), sys.base_prefix)
        command = (*within, *through, str(python), *arguments)
        return subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=300)

    if os.getuid() or None in map(shutil.which, ("unshare", "setpriv")):
        pytest.skip("only root can be somebody else")
    if call("-c", "import click, nacl, edgepick_agent.cli.commands", through=AS_THE_SERVICE).returncode:
        pytest.skip("another account cannot reach this interpreter, or there are no mount namespaces")
    return call


@pytest.fixture
def state(command, config_file, bundle_file, tmp_path):
    """Provide the state directory of a stopped service, with a model in it."""
    assert command("install", bundle_file("1"), "-c", config_file, "--yes").exit_code == 0
    config_file.write_text(config_file.read_text().replace(str(tmp_path), "/mnt"))
    for path in (tmp_path / "state", *(tmp_path / "state").rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    (tmp_path / "state").chmod(0o750)
    return tmp_path / "state"


def test_the_service_starts_after_what_root_did_in_its_state(run, state, bundle_file):
    """Pinning, and installing a file that root alone may read, leave nothing in the state that is not the service's."""
    bundle = bundle_file("2")
    bundle.chmod(0o600)

    pinned = run("-m", "edgepick_agent", "pin", "-c", "/mnt/agent.toml", "--yes")
    kept_out = run("-m", "edgepick_agent", "install", f"/mnt/{bundle.name}", "-c", "/mnt/agent.toml", "--yes")
    later = run("-m", "edgepick_agent", "unpin", "-c", "/mnt/agent.toml", through=AS_THE_SERVICE)

    assert "digits: pinned" in pinned.stdout, pinned.stderr
    assert "is pinned" in kept_out.stderr
    assert {path.lstat().st_uid for path in state.rglob("*")} == {NOBODY}
    assert later.returncode == 0, later.stderr
