"""The access list and the certificates that `edgepick broker init` writes, without a broker."""

import json
import re
import stat
import subprocess
import sys
import tarfile

import pytest

from edgepick_host.cli.main import run
from edgepick_host.core import broker_access
from edgepick_wire import topics
from edgepick_wire.topics import DeviceTopic
from host.broker.access_lists import terms

DIGEST = "a" * 64


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["keys", "init", "--fleet", "plant"]) == 0
    assert run(["broker", "init", "--host", "broker.example", "--host", "192.0.2.1"]) == 0
    return tmp_path / "broker"


def test_every_topic_of_the_wire_is_in_the_rules():
    """What devices read, write and share is exactly the topic tree; a topic added there is missed here."""
    names = {
        topics.root("f"): "root",
        topics.root_version("f", 1): "root/+",
        topics.host("f"): "host",
        topics.manifest("f", DIGEST): "m/+",
        topics.chunk("f", DIGEST): "c/+",
        topics.profile_desired("f", "p"): "p/+/desired",
    }

    assert set(names.values()) == set(broker_access.SHARED)
    for topic, rule in names.items():
        assert re.fullmatch(f"{topics.PREFIX}/f/{rule.replace('+', '[^/]+')}", topic)
    assert {*broker_access.DEVICE_READS, *broker_access.DEVICE_WRITES} == {kind.value for kind in DeviceTopic}
    assert not set(broker_access.DEVICE_READS) & set(broker_access.DEVICE_WRITES)


def test_emqx_gets_the_same_rules():
    """Every rule of mosquitto's list is in EMQX's, which ends with a refusal."""
    ours, theirs = broker_access.mosquitto_acl("plant"), broker_access.emqx_acl("plant")
    patterns = {line.split()[-1].replace("%u", "${username}") for line in ours.splitlines() if "pattern " in line[:8]}

    assert patterns
    assert all(f'"{pattern}"' in theirs for pattern in patterns)
    assert theirs.rstrip().endswith("{deny, all}.")


def test_emqx_can_read_its_rules():
    """The file is a list of Erlang terms, each of the form that EMQX documents for its file of rules."""
    *rules, last = terms(broker_access.emqx_acl("plant"))

    assert last == ("deny", "all")
    assert len(rules) == 4
    for permission, who, action, filters in rules:
        assert permission == "allow"
        assert who in ("all", ("username", f'"{broker_access.HOST_USER}"'))
        assert action in {"publish", "subscribe"}
        assert filters
        assert all(re.fullmatch(r'"edgepick/1/plant/[^"\s]+"', each) for each in filters)


@pytest.mark.parametrize("wrong", ["{allow, all", "{allow, all,}.", "{allow all}.", "{allow, all}", "{allow, ;}."])
def test_a_file_that_is_no_erlang_would_be_noticed(wrong):
    """The reading of terms above refuses what Erlang would."""
    with pytest.raises((AssertionError, IndexError)):
        terms(wrong)


def test_a_device_in_one_file_is_what_lies_in_its_folder(folder):
    """Unpacked by tar, it is the device's folder: the key its owner's alone, the configuration without a fault."""
    assert run(["devices", "enroll", "pi-1", "--archive", "pi-1.tar"]) == 0
    archive, there = folder.parent / "pi-1.tar", folder.parent / "etc"
    there.mkdir()

    subprocess.run(["tar", "-xf", str(archive), "-C", str(there)], check=True)
    command = [sys.executable, "-m", "edgepick_agent", "config", "check", "-c", str(there / "agent.toml")]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)

    made = {path.name: path.read_bytes() for path in there.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (folder / "devices/pi-1").iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (archive, there / "device.key")} == {0o600}
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_renewal_in_one_file_has_the_new_certificate(folder):
    """With --renew the archive holds what counts from now on, and the key that the device has."""
    assert run(["devices", "enroll", "pi-1", "--archive", "pi-1.tar"]) == 0

    assert run(["devices", "enroll", "pi-1", "--renew", "--archive", "again.tar"]) == 0

    first, again = (members(folder.parent / name) for name in ("pi-1.tar", "again.tar"))
    assert {name for name in first if first[name] != again[name]} == {"device.pem"}


def members(path):
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_openssl_agrees_with_the_certificates(folder):
    """Another implementation accepts the chain, the names, the purposes and the list of revoked certificates."""
    assert run(["devices", "enroll", "pi-1"]) == 0
    ca = ["openssl", "verify", "-CAfile", str(folder / "authority/ca.pem")]
    device = str(folder / "devices/pi-1/device.pem")
    revoking = ["-crl_check", "-CRLfile", str(folder / "server/crl.pem")]

    def verdict(*more):
        return subprocess.run([*ca, *more], check=False, capture_output=True).returncode

    checks = {
        "server": verdict("-purpose", "sslserver", "-verify_hostname", "broker.example", f"{folder}/server/server.pem"),
        "address": verdict("-purpose", "sslserver", "-verify_ip", "192.0.2.1", f"{folder}/server/server.pem"),
        "1970": verdict("-purpose", "sslclient", "-attime", "60", device),
        "let in": verdict(*revoking, device),
    }
    other_purpose = verdict("-purpose", "sslserver", device)
    assert run(["devices", "expel", "pi-1"]) == 0

    assert set(checks.values()) == {0}
    assert other_purpose != 0
    assert verdict(*revoking, device) != 0


def test_private_keys_are_their_owners(folder):
    """Every key is readable by its owner alone, and so is every folder that holds one."""
    assert run(["devices", "enroll", "pi-1"]) == 0
    keys = list(folder.rglob("*.key"))

    assert len(keys) == 4
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert {stat.S_IMODE(key.parent.stat().st_mode) for key in keys} == {0o700}


def test_nothing_is_replaced_by_accident(folder, capsys):
    """A second authority, a second enrolment and a renewal of nobody are refused; nothing has changed."""
    assert run(["devices", "enroll", "pi-1"]) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    codes = [
        run(["broker", "init"]),
        run(["devices", "enroll", "pi-1"]),
        run(["devices", "enroll", "pi-2", "--renew"]),
        run(["devices", "expel", "pi-2"]),
    ]

    assert codes == [1, 1, 1, 1]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_device_that_comes_back_gets_a_new_key(folder, capsys):
    """A renewal keeps the key; an enrolment after an expulsion never certifies the old one."""
    key = folder / "devices/pi-1/device.key"
    assert run(["devices", "enroll", "pi-1"]) == 0
    first = key.read_bytes()
    assert run(["devices", "enroll", "pi-1", "--renew"]) == 0
    renewed = key.read_bytes()
    assert run(["devices", "expel", "pi-1"]) == 0
    assert run(["devices", "enroll", "pi-1"]) == 0

    assert renewed == first
    assert key.read_bytes() != first


def test_a_device_that_comes_back_is_what_it_is_said_to_be(folder, capsys):
    """After an expulsion its agent.toml is written anew; a person's changes to the earlier one lie beside it."""
    config = folder / "devices/pi-1/agent.toml"
    assert run(["devices", "enroll", "pi-1"]) == 0
    config.write_text("log_level = 'debug'\n" + config.read_text())
    changed = config.read_text()
    assert run(["devices", "enroll", "pi-1", "--renew"]) == 0
    renewed = config.read_text()
    assert run(["devices", "expel", "pi-1"]) == 0
    assert run(["devices", "enroll", "pi-1", "--profile", "raspberry-pi-4"]) == 0

    assert renewed == changed
    assert 'profile = "raspberry-pi-4"' in config.read_text()
    assert config.with_name("agent.toml.before").read_text() == changed
    assert "agent.toml.before" in capsys.readouterr().out


def test_json_names_what_was_written(folder, capsys):
    """Programs get the folder of a device as JSON."""
    capsys.readouterr()

    code = run(["devices", "enroll", "pi-1", "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "broker/devices/pi-1"
