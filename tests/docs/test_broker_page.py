import getpass
import shutil

import pytest

from docs.doc_commands import PROGRAMS, commands, run_script
from fakes.free_ports import free_port


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mosquitto", path=PROGRAMS), reason="the page uses mosquitto, not installed here")
@pytest.mark.skipif(not shutil.which("pkill"), reason="the page uses pkill, which is not installed here")
def test_the_broker_page_works_command_by_command(tmp_path):
    """Following the page alone leads to two devices online over TLS, a renewal, and one of them expelled."""
    port = str(free_port())
    # Started by root, mosquitto would become a user who may not read our files.
    account = f"sed -i '1i user {getpass.getuser()}' broker/server/mosquitto.conf"
    script = commands(
        "broker.md",
        replace={
            "--host 127.0.0.1\n": f"--host 127.0.0.1 --port {port}\n{account}\n",
            "localhost:8883": f"localhost:{port}",
        },
    )

    done = run_script(script, tmp_path, seconds=200)

    assert done.returncode == 0, done.stdout[-4000:]
    assert "it was revoked" in done.stdout
    assert "valid until" in done.stdout
