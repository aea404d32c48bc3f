"""A broker that is away or does not let one in: both sides say so in words, and nothing that runs is disturbed."""

import shutil
import subprocess

import pytest

from integration.whole_system import MODEL, Device, until


def test_commands_without_a_broker_exit_with_3(broker, host, variants):
    """Every command that needs the broker says where it looked, and what to do; publishing works once it is there."""
    broker.stop()

    away = {
        " ".join(map(str, words[:2])): host.ask(*words)
        for words in (
            ("publish", variants),
            ("devices", "list"),
            ("devices", "show", "pi-1"),
            ("devices", "watch", "--for", "1"),
            ("prune",),
            ("serve",),
        )
    }
    broker.start()
    later = host.ask("publish", variants, "--json")

    assert {name: done.code for name, done in away.items()} == dict.fromkeys(away, 3)
    assert all(f"127.0.0.1:{broker.port}" in done.err and "hint: " in done.err for done in away.values())
    assert all(done.out == "" and done.err.startswith("error: ") for done in away.values())
    assert later.code == 0
    assert all(v["chunks_new"] for v in later.json()["variants"])


def test_a_device_without_its_broker_goes_on_serving(broker, host, device, variants):
    """While the broker is away the device serves, says what is wrong and keeps trying; then it is there again."""
    made = host.publish(variants, "--no-measure")
    device.start()
    until(lambda: device.confirmed(made["targets"][0]["active"]), "confirmed")

    broker.stop()
    away = until(lambda: (b := device.status().broker) != "connected" and b, "it says so")
    share = device.answers()
    shown = device("status")
    doctor = device("doctor")
    broker.start()
    until(lambda: device.status().broker == "connected", "connected again")

    assert share >= 0.75
    assert "connection refused" in away or "lost" in away or "closed" in away
    assert (shown.code, MODEL in shown.out) == (0, True)
    assert doctor.code != 0
    assert "FAIL" in doctor.out


@pytest.fixture
def guarded(broker):
    """Provide a broker that lets in nobody but ``operator`` with the password ``s3cret``."""
    tool = shutil.which("mosquitto_passwd")
    if broker.kind != "mosquitto" or tool is None:
        pytest.skip("mosquitto and mosquitto_passwd are not both installed")
    broker.stop()
    passwords = broker.folder / "passwords"
    subprocess.run([tool, "-b", "-c", str(passwords), "operator", "s3cret"], check=True, capture_output=True)
    passwords.chmod(0o644)
    broker.extra = f"user root\nallow_anonymous false\npassword_file {passwords}"
    broker.start()
    return broker


def test_a_wrong_password_is_said_on_both_sides(guarded, host, tmp_path, variants):
    """The host exits with 3 and keeps the password to itself; the agent says so in its status and keeps trying."""
    url = f"mqtt://operator@127.0.0.1:{guarded.port}"
    secret = tmp_path / "password"
    secret.write_text("wr0ng")
    secret.chmod(0o600)
    device = Device(tmp_path, host, broker=f'username = "operator"\npassword_file = "{secret}"')

    refused = host("publish", variants, "--broker", url, EDGEPICK_BROKER_PASSWORD="wr0ng")
    anonymous = host.ask("publish", variants)
    try:
        device.start()
        words = until(lambda: (b := device.status().broker).startswith("refused") and b, "refused")
        doctor = device("doctor")
        device.stop()
        secret.write_text("s3cret")
        let_in = host("publish", variants, "--no-measure", "--json", "--broker", url, EDGEPICK_BROKER_PASSWORD="s3cret")
        device.start()
        until(lambda: device.confirmed(let_in.json()["targets"][0]["active"]), "confirmed")
        device.stop()
    finally:
        device.end()

    assert [refused.code, anonymous.code] == [3, 3]
    assert all("refused the connection" in done.err for done in (refused, anonymous))
    assert "not authorised" in words or "bad user name or password" in words
    assert "FAIL  broker login" in doctor.out
    assert "wrong user name or password" in doctor.out
    assert "wr0ng" not in refused.err + doctor.out + device.log()
