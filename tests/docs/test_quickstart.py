import shutil

import pytest

from docs.doc_commands import PROGRAMS, commands, run_script
from fakes.free_ports import free_port


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mosquitto", path=PROGRAMS), reason="the page uses mosquitto, not installed here")
@pytest.mark.skipif(not shutil.which("pkill"), reason="the page ends with pkill, which is not installed here")
def test_quickstart_works_command_by_command(tmp_path):
    """Following the page alone leads from nothing to a second version rolled out, explained and taken back."""
    port = str(free_port())
    point = f"sed -i s/:1883/:{port}/ edgepick.toml"
    script = commands(
        "quickstart.md",
        skip=1,  # the environment is there already
        replace={
            "edgepick publish v1": f"{point}\nedgepick publish v1",
            ":1883": f":{port}",
            "listener 1883": f"listener {port}",
            "s/:" + port + "/": "s/:1883/",
        },
    )

    done = run_script(script, tmp_path, seconds=280)

    assert done.returncode == 0, done.stdout[-4000:]
    assert "done: confirmed on every device" in done.stdout
    assert "agent      running" in done.stdout
    assert "-tflite was chosen by the operator" in done.stdout
