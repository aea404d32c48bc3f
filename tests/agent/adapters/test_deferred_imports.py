"""Modules that are put off: not loaded by an import of a dependency, and there when they are used."""

import subprocess
import sys

LOADED = "print(*(name in sys.modules for name in ('urllib.request', 'http.client', 'email')))"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_the_transport_brings_no_http_along():
    """Importing the MQTT adapter loads neither urllib.request nor http.client nor email."""
    assert run(f"import sys, edgepick_agent.adapters.mqtt; {LOADED}") == "False False False"


def test_what_is_put_off_is_loaded_on_use():
    """Asked for something, the module is the real one, for the dependency and for everybody."""
    code = (
        "import sys, edgepick_agent.adapters.mqtt, paho.mqtt.client as c\n"
        "found = c.urllib.request.getproxies\n"
        "import urllib.request\n"
        "print(found is urllib.request.getproxies, c.urllib.request is sys.modules['urllib.request'])"
    )

    assert run(code) == "True True"


def test_what_is_loaded_already_stays():
    """A module that is there before is left alone."""
    code = (
        "import sys, urllib.request as before\n"
        "import edgepick_agent.adapters.mqtt, urllib.request as after\n"
        "print(before is after is sys.modules['urllib.request'])"
    )

    assert run(code) == "True"
