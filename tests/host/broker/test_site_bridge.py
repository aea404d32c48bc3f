"""What `edgepick broker bridge` writes: who may what on both ends, one direction for each topic, own certificates."""

import json
import re
from pathlib import Path

import pytest
from cryptography import x509

from edgepick_host.cli.main import run
from edgepick_host.core import broker_access
from edgepick_host.core.broker_access import HOST_WRITES, SitePlan, bridge_state, mosquitto_acl

BASE = "edgepick/1/plant"
SITE = SitePlan(name="line-a", hosts=("gateway",), port=8883, place="/etc/mosquitto/site")


@pytest.fixture
def folder(site):
    """Provide the folder of a fleet's broker with a site, and an enrolled device there."""
    assert run(["broker", "init", "--host", "central.example", "--fleet", site.settings().fleet]) == 0
    bridge = [
        "broker",
        "bridge",
        "line-a",
        "--host",
        "gateway.line-a",
        "--host",
        "192.0.2.7",
        "--at",
        "/etc/mosquitto/site",
    ]
    assert run(bridge) == 0
    return Path("broker")


def config(folder):
    return (folder / "sites/line-a/mosquitto.conf").read_text()


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_topic_crosses_in_one_direction(folder):
    """What the host writes comes in, what devices write goes out; together that is every topic, and none both ways."""
    fleet = re.search(r"edgepick/1/([^/]+)/", config(folder))[1]
    lines = re.findall(rf"^topic edgepick/1/{fleet}/(\S+) (in|out) 1$", config(folder), re.MULTILINE)

    inwards, outwards = ({topic for topic, way in lines if way == w} for w in ("in", "out"))

    assert inwards == set(HOST_WRITES)
    assert outwards == {f"d/+/{kind}" for kind in broker_access.DEVICE_WRITES}
    assert len(lines) == len(inwards | outwards) == len(re.findall(r"^topic ", config(folder), re.MULTILINE))


def test_the_bridge_leads_to_the_central_broker_with_its_own_certificate(folder):
    """It is the central broker's address, the paths are the site's, and the name in the certificate is the site's."""
    made = folder / "sites/line-a"

    assert "address central.example:8883" in config(folder)
    assert "bridge_certfile /etc/mosquitto/site/bridge.pem" in config(folder)
    assert certificate(made / "bridge.pem").subject.rfc4514_string() == "CN=@site-line-a"
    assert certificate(made / "bridge.pem").issuer == certificate(made / "ca.pem").subject
    names = certificate(made / "server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.line-a"]


def test_the_central_broker_lets_the_site_speak_for_devices_and_for_nobody_else():
    """The bridge may write what devices write and its own state, and read what the host writes."""
    acl = mosquitto_acl("plant", [SITE])

    own = acl.partition("user @site-line-a\n")[2].partition("\n\n")[0].splitlines()

    writes = {line.removeprefix("topic write ") for line in own if line.startswith("topic write ")}
    reads = {line.removeprefix("topic read ") for line in own if line.startswith("topic read ")}
    assert writes == {f"{BASE}/d/+/{kind}" for kind in broker_access.DEVICE_WRITES} | {bridge_state("line-a")}
    assert reads == {f"{BASE}/{topic}" for topic in HOST_WRITES}
    assert len(own) == len(writes) + len(reads)


def test_a_fleet_without_sites_has_the_rules_that_it_had():
    """No site, no word of one."""
    assert "@site" not in mosquitto_acl("plant")
    assert "$SYS" not in mosquitto_acl("plant")


def test_a_device_of_a_site_is_told_the_sites_broker(folder, capsys):
    """`--site` leads the device to the broker there; a site that nobody set up is refused with those that there are."""
    assert run(["devices", "enroll", "pi-1", "--site", "line-a"]) == 0
    capsys.readouterr()

    refused = run(["devices", "enroll", "pi-2", "--site", "line-b"])

    assert 'host = "gateway.line-a"' in (folder / "devices/pi-1/agent.toml").read_text()
    assert refused == 1
    assert "there is no site 'line-b'; there are: line-a" in capsys.readouterr().err
    assert not (folder / "devices/pi-2").exists()


def test_an_expelled_device_is_on_every_brokers_list(folder):
    """The list of revoked certificates is written for the central broker and for each site."""
    run(["devices", "enroll", "pi-1", "--site", "line-a"])
    before = (folder / "sites/line-a/crl.pem").read_bytes()

    assert run(["devices", "expel", "pi-1"]) == 0

    lists = [(folder / place / "crl.pem").read_bytes() for place in ("server", "sites/line-a")]
    assert lists[0] == lists[1] != before
    assert len(x509.load_pem_x509_crl(lists[1])) == 1


def test_renewing_keeps_keys_and_knows_the_sites(folder):
    """`broker renew`, and the same `broker bridge` again, make new certificates for the keys that are there."""
    made = folder / "sites/line-a"
    keys = [(made / name).read_bytes() for name in ("server.key", "bridge.key")]
    first = certificate(made / "bridge.pem").serial_number

    assert run(["broker", "renew"]) == 0
    second = certificate(made / "bridge.pem").serial_number
    assert run(["broker", "bridge", "line-a", "--host", "gateway.line-a"]) == 0

    assert len({first, second, certificate(made / "bridge.pem").serial_number}) == 3
    assert [(made / name).read_bytes() for name in ("server.key", "bridge.key")] == keys
    assert [s["name"] for s in json.loads((folder / "broker.json").read_text())["sites"]] == ["line-a"]


@pytest.mark.parametrize(
    ("prepare", "name", "refusal"),
    [
        (["--kind", "emqx"], "line-a", (1, "bridges are written for mosquitto on both ends")),
        ([], "Line A", (2, "Line A")),
        (None, "line-a", (2, "`edgepick broker init` sets a broker up")),
    ],
)
def test_a_bridge_that_cannot_be_is_refused(site, capsys, prepare, name, refusal):
    """Another kind of broker, a name that is none, no central broker: each is said, and nothing is written."""
    if prepare is not None:
        assert run(["broker", "init", *prepare]) == 0
        capsys.readouterr()

    code = run(["broker", "bridge", name])

    assert code == refusal[0]
    assert refusal[1] in capsys.readouterr().err
    assert not Path("broker/sites").exists()
