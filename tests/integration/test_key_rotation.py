"""Keys that change while a device is away, with the real commands, a real broker and a real agent."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from edgepick_wire import envelope, topics
from edgepick_wire.messages import Incident, Phase, RefusalCode
from integration.forger import Forger
from integration.whole_system import FLEET, MODEL, Device, until

VARIANT = "static_wi8_ai8-tflite"


@pytest.fixture
def born(host, device: Device, variants, tmp_path):
    """Provide a device that runs version 1, and was born with version 1 of the root document."""
    shutil.copy(host.root, tmp_path / "born.signed")
    device._root = tmp_path / "born.signed"
    device.configure()
    made = host.publish(variants, "--version", "1", "--no-measure", "--variant", VARIANT)
    device.start()
    until(lambda: device.confirmed(made["variants"][0]["manifest"]), "version 1 is confirmed")
    return device


@pytest.fixture
def forger(host, born):
    made = Forger(host, born)
    yield made
    made.close()


def followed(device: Device) -> int:
    """Return the version of the root document that the device has on disk; 1 is the one it was born with."""
    root = json.loads((device.state / "state.json").read_text()).get("root")
    return root["version"] if root else 1


def rotate(host, *roles: str) -> None:
    for role in roles:
        done = host("keys", "rotate", role)
        assert done.code == 0, done.err


def test_a_device_that_was_away_for_three_rotations_comes_back(host, born, newer_variants):
    """Nobody touches it: it follows the chain, keeps what it runs, and installs what the new keys sign."""
    before = born.active()
    born.stop()
    rotate(host, "release", "root", "campaign")
    assert host.ask("keys", "publish").code == 0

    born.start()
    until(lambda: followed(born) == 4, "the chain is followed")
    until(born.runner, "what was installed serves")
    kept = born.active()
    made = host.publish(newer_variants, "--version", "2", "--no-measure", "--activate", VARIANT, "--yes")
    until(lambda: born.confirmed(made["variants"][0]["manifest"]), "version 2, by the new keys, is confirmed")

    assert kept == before
    assert "bad-signature" not in "".join(str(report) for report in born.waiting_reports())
    assert born.answers() >= 0.75


def test_a_revoked_key_brings_nothing_new_and_the_service_signs_again(host, born, forger):
    """With the agent and the service running throughout: what a revoked key signs is refused, the old runs on."""
    before = born.active()
    rotate(host, "release")
    (revoked,) = (host.folder / "keys").glob("release-*.pem")
    with host.service():
        until(lambda: followed(born) == 2, "the running device follows")
        forged = forger.manifest(replace(forger.template(), version="stolen"), key=revoked.stem)
        forger.want(forged)
        model = until(lambda: (m := born.model()) and m.wanted == forged and m.phase is Phase.REFUSED and m, "refused")
    with host.store() as store:
        signers = {s.key_id for s in envelope.unpack(store.manifest(before)).signatures}

    assert model.refusal.code is RefusalCode.BAD_SIGNATURE
    assert born.active() == before
    assert born.answers() >= 0.75
    assert signers
    assert revoked.stem.rpartition("-")[2] not in signers


def built(host, variants, path):
    done = host("bundle", "build", variants, "--variant", VARIANT, "--version", "stick", "--out", path)
    assert done.code == 0, done.err
    return path


@pytest.mark.parametrize("online", [False, True], ids=["never heard of it", "followed by network"])
def test_a_stick_brings_the_keys_that_it_is_signed_with(host, born, newer_variants, tmp_path, online):
    """After every key was replaced a bundle is installed on a device that was away, and on one that was not."""
    if not online:
        born.stop()
    rotate(host, "release", "root", "release")
    if online:
        assert host.ask("keys", "publish").code == 0
        until(lambda: followed(born) == 4, "the chain is followed")

    installed = born("install", built(host, newer_variants, tmp_path / "new.edgepick"), "--yes")

    assert installed.code == 0, installed.err
    assert "digits stick" in installed.out
    assert followed(born) == 4


def test_where_two_keys_have_to_sign_one_stolen_key_installs_nothing(host, born, forger, newer_variants, tmp_path):
    """With thresholds of two for models and orders, the host signs with both, and a device accepts no less."""
    for role in ("release", "campaign"):
        other = tmp_path / f"{role}.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", other], check=True, capture_output=True)
        both = ("--key", f"file:{host.folder}/keys/{role}.pem", "--key", f"file:{other}", "--threshold", 2)
        assert host("keys", "rotate", role, *both).code == 0
    toml = host.folder / "edgepick.toml"
    cosigners = "\n".join(f'{role}_cosigners = ["file:{tmp_path}/{role}.pem"]' for role in ("release", "campaign"))
    toml.write_text(f"{toml.read_text()}\n[signers]\n{cosigners}\n")
    published = host.ask("keys", "publish")
    until(lambda: followed(born) == 3, "both changes are followed")

    made = host.publish(newer_variants, "--version", "2", "--no-measure", "--activate", VARIANT, "--yes")
    until(lambda: born.confirmed(made["variants"][0]["manifest"]), "what both keys signed is confirmed")
    forger.want(forger.manifest(replace(forger.template(), version="stolen")))
    until(lambda: any("desired state" in i.detail for i in incidents(born)), "one key's order is refused")

    assert published.code == 0, published.err
    assert born.active() == made["variants"][0]["manifest"]


def incidents(device: Device) -> list[Incident]:
    return [report.incident for report in device.waiting_reports() if report.incident]


def test_a_running_service_goes_on_with_a_new_campaign_key(host, born, newer_variants):
    """Rotated under it, the key is taken up by itself: the device follows, and accepts the rollout that it signs."""
    with host.service():
        until(lambda: "serving fleet" in host.said(), "the service runs")
        rotate(host, "campaign", "root", "campaign")
        until(lambda: followed(born) == 4, "the device follows, although nobody ran `keys publish`")
        made = host.publish(newer_variants, "--version", "2", "--no-measure", "--variant", VARIANT)
        begun = host.ask("rollout", "start", MODEL, "--variant", VARIANT, "--soak", "0s", "--yes", "--no-wait")
        until(lambda: born.confirmed(made["variants"][0]["manifest"]), "what the service wants is confirmed")

    assert begun.code == 0, begun.err
    assert host.said().count("serving fleet") >= 2
    assert "bad-signature" not in "".join(str(report) for report in born.waiting_reports())


def test_a_service_that_lacks_the_new_campaign_key_says_so(host, tmp_path):
    """While the root document names a key that is elsewhere, it goes on, and says once what to do."""
    elsewhere = tmp_path / "elsewhere"
    assert host("keys", "init", "--fleet", FLEET, "--dir", elsewhere).code == 0
    with host.service():
        until(lambda: "serving fleet" in host.said(), "the service runs")
        done = host("keys", "rotate", "campaign", "--key", f"file:{elsewhere}/campaign.pem")
        until(lambda: "restart it" in host.said(), "it says so")

    assert done.code == 0, done.err
    assert host.said().count("cannot sign with the new ones") == 1


def test_a_bad_chain_changes_nothing(host, born, forger, tmp_path):
    """A stranger's next version, a fast-forward and a lower version leave the device with its keys and its model."""
    before = born.active()
    strange = tmp_path / "strange"
    host("keys", "init", "--fleet", FLEET, "--dir", strange)
    for _ in range(2):
        assert host("keys", "rotate", "release", "--keys", strange).code == 0

    forger.put(topics.root_version(FLEET, 2), (strange / "root-2.signed").read_bytes())
    forger.put(topics.root(FLEET), (strange / "root-3.signed").read_bytes())
    until(lambda: len([r for r in born.waiting_reports() if r.incident]) >= 2, "both are refused")
    forger.put(topics.root(FLEET), (strange / "root-1.signed").read_bytes())
    forger.put(topics.root_version(FLEET, 2), b"")
    forger.put(topics.root(FLEET), host.root.read_bytes())
    rotate(host, "campaign")
    done = host.ask("keys", "publish")
    until(lambda: followed(born) == 2, "the true next version is followed")

    said = [r.incident.detail for r in born.waiting_reports() if r.incident]
    assert done.code == 0, done.err
    assert all(detail.startswith("bad-signature: root document") for detail in said)
    assert born.active() == before
    assert born.answers() >= 0.75
