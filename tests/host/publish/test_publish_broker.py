"""``edgepick publish`` to a real broker, checked by a client and by tools that share no code with it."""

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from fakes.host_site import FLEET, blob, edit_json

ROOT = f"edgepick/1/{FLEET}"
WAIT_SECONDS = 60


def fetch(url: str, topic: str) -> bytes:
    """Return one retained message, fetched by a client that knows nothing of edgepick."""
    port = int(url.rpartition(":")[2])
    found: list[bytes] = []
    arrived = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)

    def on_message(_client, _userdata, message) -> None:
        found.append(bytes(message.payload))
        arrived.set()

    client.on_connect = lambda c, *_: c.subscribe(topic, 1)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert arrived.wait(WAIT_SECONDS), f"nothing is retained on {topic}"
    finally:
        client.disconnect()
        client.loop_stop()
    return found[0]


def take_apart(document: bytes) -> tuple[dict, bytes]:
    """Return header and payload of a signed document."""
    head, _, payload = document.partition(b"\n")
    return json.loads(head), payload


def openssl_verifies(folder: Path, public_hex: str, kind: str, document: bytes) -> bool:
    """Return openssl's verdict on the first signature of a document, over DSSE's encoding of it."""
    header, payload = take_apart(document)
    name = f"edgepick/{kind}"
    spki = bytes.fromhex("302a300506032b6570032100") + bytes.fromhex(public_hex)
    (folder / "key.pem").write_text(
        f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(spki).decode()}\n-----END PUBLIC KEY-----\n"
    )
    (folder / "message").write_bytes(f"DSSEv1 {len(name)} {name} {len(payload)} ".encode() + payload)
    (folder / "signature").write_bytes(bytes.fromhex(header["signatures"][0]["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message"]
    done = subprocess.run([*command, "-sigfile", "signature"], cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


def test_a_stranger_finds_and_verifies_everything(broker, site, variants, edgepick, tmp_path):
    """With the publisher gone, a plain MQTT client finds root, manifest and chunks that openssl and hashlib confirm."""
    published = edgepick("publish", variants, "--broker", broker.url, "--json").json()
    manifest_digest = published["variants"][0]["manifest"]

    root = fetch(broker.url, f"{ROOT}/root")
    signed = fetch(broker.url, f"{ROOT}/m/{manifest_digest}")
    keys = json.loads(take_apart(root)[1])
    payload = take_apart(signed)[1]
    model = next(f for f in json.loads(payload)["files"] if f["name"] == "model.tflite")
    index = b"".join(fetch(broker.url, f"{ROOT}/c/{digest}") for digest in model["index"])
    chunks = [index[i : i + 32].hex() for i in range(0, len(index), 32)]
    content = b"".join(fetch(broker.url, f"{ROOT}/c/{digest}") for digest in chunks)

    assert openssl_verifies(tmp_path, keys["root"]["keys"][0], "root", root)
    assert openssl_verifies(tmp_path, keys["release"]["keys"][0], "manifest", signed)
    assert not openssl_verifies(tmp_path, keys["campaign"]["keys"][0], "manifest", signed)
    assert hashlib.sha256(payload).hexdigest() == manifest_digest
    assert hashlib.sha256(content).hexdigest() == model["sha256"]
    assert content in (blob(1, 150_000), blob(2, 70_000))


def test_desired_state_is_signed_by_the_campaign_key(broker, site, variants, edgepick, tmp_path):
    """Each profile finds what to run and to measure, signed by the campaign key."""
    published = edgepick("publish", variants, "--broker", broker.url, "--json").json()
    digests = {v["variant"]: v["manifest"] for v in published["variants"]}

    desired = fetch(broker.url, f"{ROOT}/p/raspberry-pi-4/desired")
    keys = json.loads(take_apart(fetch(broker.url, f"{ROOT}/root"))[1])
    (assignment,) = json.loads(take_apart(desired)[1])["models"]

    assert openssl_verifies(tmp_path, keys["campaign"]["keys"][0], "desired", desired)
    assert assignment["active"] == digests["static_wi8_ai8"]
    assert {m["manifest"] for m in assignment["measure"]} == set(digests.values())
    assert all(m["id"].startswith(m["manifest"][:12] + "-") for m in assignment["measure"])


def test_publishing_twice_publishes_nothing_twice(broker, site, variants, edgepick):
    """The second publication has the same manifests, sends no chunk and takes no sequence."""
    first = edgepick("publish", variants, "--broker", broker.url, "--json").json()
    before = fetch(broker.url, f"{ROOT}/p/raspberry-pi-4/desired")

    second = edgepick("publish", variants, "--broker", broker.url, "--json").json()

    assert first["bytes_sent"] > 220_000
    assert second["bytes_sent"] == 0
    assert [v["chunks_new"] for v in second["variants"]] == [0, 0]
    assert [v["manifest"] for v in second["variants"]] == [v["manifest"] for v in first["variants"]]
    assert [t["sequence"] for t in second["targets"]] == [t["sequence"] for t in first["targets"]]
    assert not any(t["changed"] for t in second["targets"])
    assert fetch(broker.url, f"{ROOT}/p/raspberry-pi-4/desired") == before


def test_broker_that_lost_its_memory_is_given_everything_again(broker, site, variants, edgepick):
    """A broker that was restarted empty gets every chunk again, although the store remembers them."""
    first = edgepick("publish", variants, "--broker", broker.url, "--json").json()
    broker.stop()
    broker.start()

    second = edgepick("publish", variants, "--broker", broker.url, "--json").json()

    assert second["bytes_sent"] == first["bytes_sent"]
    assert fetch(broker.url, f"{ROOT}/m/{second['variants'][0]['manifest']}")


def test_lost_database_does_not_go_back(broker, site, variants, edgepick):
    """A host that lost its database learns from the broker what devices run, and counts on from there."""
    edgepick("publish", variants, "--broker", broker.url, "--json")
    (site.folder / "edgepick.db").unlink()

    done = edgepick("publish", variants, "--broker", broker.url, "--activate", "float32", "--json").json()

    assert [(t["target"], t["sequence"], t["changed"]) for t in done["targets"]] == [
        ("raspberry-pi-4", 3, True),
        ("raspberry-pi-5", 2, False),
    ]


def test_broker_of_another_fleet_is_left_alone(broker, site, variants, edgepick, tmp_path):
    """With other keys for the same fleet name, nothing is written and the exit code is 4."""
    edgepick("publish", variants, "--broker", broker.url)
    before = fetch(broker.url, f"{ROOT}/root")
    edgepick("keys", "init", "--fleet", FLEET, "--dir", tmp_path / "others")

    done = edgepick("publish", variants, "--broker", broker.url, "--keys", tmp_path / "others")

    assert done.code == 4
    assert "another root document" in done.err
    assert fetch(broker.url, f"{ROOT}/root") == before


def test_broker_away(site, variants, edgepick):
    """Without a broker the exit code is 3 and the message names the address."""
    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1")

    assert done.code == 3
    assert "127.0.0.1:1 cannot be reached: connection refused" in done.err
    assert "hint: Start the broker" in done.err


def hang_up(server: socket.socket) -> None:
    """Accept one connection and close it without a word."""
    server.accept()[0].close()


def test_broker_silent(site, variants, edgepick):
    """Something that accepts the connection and says nothing is no broker: exit code 3."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        closer = threading.Thread(target=hang_up, args=[server])
        closer.start()

        done = edgepick("publish", variants, "--broker", f"mqtt://127.0.0.1:{port}")
        closer.join()

    assert done.code == 3
    assert f"127.0.0.1:{port}" in done.err


@pytest.mark.parametrize("user", ["", "operator:wr0ng-secret@"])
def test_wrong_password(broker, site, variants, edgepick, user):
    """A broker that refuses the password gives exit code 3, a message, and no password in it."""
    broker.stop()
    broker.extra = "allow_anonymous false"
    broker.start()

    done = edgepick("publish", variants, "--broker", f"mqtt://{user}127.0.0.1:{broker.port}")

    assert done.code == 3
    assert "refused the connection" in done.err
    assert "EDGEPICK_BROKER_PASSWORD" in done.err
    assert "wr0ng-secret" not in done.err + done.out


def test_right_password(broker, site, variants, edgepick, monkeypatch):
    """With the right user and a password from the environment, publishing works."""
    tool = shutil.which("mosquitto_passwd")
    if broker.kind != "mosquitto" or tool is None:
        pytest.skip("mosquitto with mosquitto_passwd is not installed")
    broker.stop()
    passwords = broker.folder / "passwords"
    subprocess.run([tool, "-b", "-c", str(passwords), "operator", "s3cret"], check=True, capture_output=True)
    passwords.chmod(0o644)
    as_root = "user root\n" if os.geteuid() == 0 else ""  # else it could not read a test's folder
    broker.extra = f"{as_root}allow_anonymous false\npassword_file {passwords}"
    broker.start()
    monkeypatch.setenv("EDGEPICK_BROKER_PASSWORD", "s3cret")

    done = edgepick("publish", variants, "--broker", f"mqtt://operator@127.0.0.1:{broker.port}", "--json")

    assert done.code == 0
    assert done.json()["variants"]


def test_tampered_model_is_never_published(broker, site, variants, edgepick):
    """A model file that is not the one compress wrote stops everything before the broker: exit code 4."""
    path = variants / "float32" / "float32.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1")

    assert done.code == 4
    assert "SHA-256" in done.err
    assert "float32.tflite" in done.err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("model"), "VariantSet.model: missing"),
        (lambda d: d["variants"][0].update(size_bytes="big"), "VariantSet.variants[0].size_bytes"),
        (lambda d: d["variants"][1]["recipe"].update(format="gguf"), "VariantSet.variants[1].recipe.format"),
        (lambda d: d.update(schema=9), "schema 9"),
        (lambda d: d["variants"][0].update(folder="../../etc"), "leads out of the directory"),
        (lambda d: d["variants"][0].update(name="Has Spaces"), "Has Spaces"),
        (lambda d: d.update(variants=[]), "no variant is left"),
    ],
)
def test_malformed_variants_name_the_field(site, variants, edgepick, change, named):
    """A wrong variants.json gives exit code 2 and names the file and the field."""
    edit_json(variants / "variants.json", change)

    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1")

    assert done.code == 2
    assert named in done.err


def test_not_json_at_all(site, variants, edgepick):
    """A variants.json that is cut off gives exit code 2 and names the file."""
    path = variants / "variants.json"
    path.write_bytes(path.read_bytes()[:100])

    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1")

    assert done.code == 2
    assert str(path) in done.err


def test_unknown_profile(site, variants, edgepick):
    """Variants for a profile that nobody knows give exit code 2, and the hint says how to add it."""
    edit_json(variants / "variants.json", lambda d: [v.update(profiles=["toaster"]) for v in d["variants"]] and None)
    edit_json(variants / "variants.json", lambda d: d.update(profiles=["toaster"]))

    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1")

    assert done.code == 2
    assert "toaster" in done.err
    assert "--profiles" in done.err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--profile", "coral-dev-board"], "no profile 'coral-dev-board'; there are raspberry-pi-4, raspberry-pi-5"),
        (["--variant", "float33"], "no variant 'float33'; there are float32, static_wi8_ai8"),
        (["--activate", "float33", "--yes"], "--activate 'float33'"),
    ],
)
def test_names_that_do_not_exist(site, variants, edgepick, flags, named):
    """A profile or variant that is not there gives exit code 2 and the ones that are."""
    done = edgepick("publish", variants, "--dry-run", *flags)

    assert done.code == 2
    assert named in done.err


def test_missing_keys(site, variants, edgepick, tmp_path):
    """Without keys the exit code is 2 and the hint says how to make them."""
    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1", "--keys", tmp_path / "none")

    assert done.code == 2
    assert "keys init" in done.err


def test_key_that_does_not_count(site, variants, edgepick, tmp_path):
    """A release key that the root document does not name gives exit code 4 before anything is sent."""
    edgepick("keys", "init", "--fleet", FLEET, "--dir", tmp_path / "others")
    (site.keys / "release.pem").write_bytes((tmp_path / "others" / "release.pem").read_bytes())

    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1")

    assert done.code == 4
    assert "release key" in done.err


def test_dry_run_changes_nothing(site, variants, edgepick):
    """A dry run needs no broker, shows what would be sent, and leaves no release behind."""
    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1", "--dry-run", "--json").json()
    again = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1", "--dry-run", "--json").json()

    assert done["dry_run"]
    assert done["bytes_sent"] > 220_000
    assert done == again
    assert [t["sequence"] for t in done["targets"]] == [0, 0]


def test_errors_are_json_where_asked(site, variants, edgepick):
    """With --json an error is one JSON object on stderr, and nothing is on stdout."""
    done = edgepick("publish", variants, "--broker", "mqtt://127.0.0.1:1", "--json")

    error = json.loads(done.err)["error"]
    assert (error["code"], error["exit_code"], done.out) == ("unreachable", 3, "")


def test_table_for_a_person(broker, site, variants, edgepick):
    """Without --json a person sees the variants, their chunks and what each target runs."""
    done = edgepick("publish", variants, "--broker", broker.url)

    assert done.code == 0
    for word in ("static_wi8_ai8", "float32", "raspberry-pi-5", "new chunks", "known", "sequence"):
        assert word in done.out


def test_device_that_was_never_heard(broker, site, variants, edgepick):
    """Publishing to a device that nobody heard of fails with exit code 1 before its desired state is touched."""
    done = edgepick("publish", variants, "--broker", broker.url, "--device", "pi-9")

    assert done.code == 1
    assert "never heard of device pi-9" in done.err
