"""``edgepick keys rotate | revoke | sign-root``, with openssl as the judge of every signature."""

import json
import stat

import pytest

from edgepick_host import app
from edgepick_wire import envelope
from edgepick_wire.envelope import DocumentType, key_id, signed_bytes
from edgepick_wire.errors import SignatureError
from edgepick_wire.trust import first_root, next_root
from fakes.host_site import FLEET
from host.keys.test_keys import openssl, public_key_by_openssl


def signed(path):
    return envelope.unpack(path.read_bytes())


def by_role(edgepick) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in edgepick("keys", "show", "--json").json()["keys"]:
        found.setdefault(key["role"], []).append(key["key_id"])
    return found


def verified_by_openssl(document, private_key, folder) -> bool:
    """Return whether openssl accepts the signature that ``private_key`` made of a root document."""
    public = public_key_by_openssl(private_key.parent, private_key.name)
    (made,) = [s for s in document.signatures if s.key_id == key_id(public)]
    (folder / "m").write_bytes(signed_bytes(DocumentType.ROOT, document.payload))
    (folder / "s").write_bytes(bytes.fromhex(made.signature))
    said = openssl("pkeyutl", "-verify", "-rawin", "-inkey", private_key, "-in", "m", "-sigfile", "s", folder=folder)
    return b"Verified Successfully" in said


@pytest.mark.parametrize("role", ["release", "campaign"])
def test_a_role_gets_a_new_key(site, edgepick, tmp_path, role):
    """The next version names a new key, openssl confirms who signed it, and the settings lead to the new key."""
    before = by_role(edgepick)
    old = (site.keys / f"{role}.pem").read_bytes()

    change = edgepick("keys", "rotate", role, "--json").json()

    after = by_role(edgepick)
    assert (change["version"], change["in_force"], change["missing"]) == (2, True, [0, 0])
    assert [change["removed"], change["added"]] == [[[role, before[role][0]]], [[role, after[role][0]]]]
    assert {r: k for r, k in after.items() if r != role} == {r: k for r, k in before.items() if r != role}
    assert verified_by_openssl(signed(site.keys / "root.signed"), site.keys / "root.pem", tmp_path)
    assert key_id(public_key_by_openssl(site.keys, f"{role}.pem")) == after[role][0]
    assert (site.keys / f"{role}-{before[role][0]}.pem").read_bytes() == old
    assert stat.S_IMODE((site.keys / f"{role}.pem").stat().st_mode) == 0o600
    assert change["new_files"] == [f"keys/{role}.pem"]


def test_every_version_is_kept_and_follows_from_the_one_before(site, edgepick):
    """Three rotations leave four root documents, each signed by the root keys of its predecessor and its own."""
    for role in ("release", "root", "campaign"):
        assert edgepick("keys", "rotate", role).code == 0

    check = app.verify_signature()
    versions = [signed(site.keys / f"root-{number}.signed") for number in (1, 2, 3, 4)]
    trusted = first_root(versions[0], check)
    for document in versions[1:]:
        trusted = next_root(trusted, document, check)
    assert trusted.version == 4
    assert (site.keys / "root.signed").read_bytes() == (site.keys / "root-4.signed").read_bytes()
    with pytest.raises(SignatureError):
        next_root(first_root(versions[0], check), versions[3], check)


def test_two_of_three_root_keys_sign_apart(edgepick, site, tmp_path, monkeypatch):
    """A change waits until enough holders have signed the file, each where their key is, and then is in force."""
    folder, safe = tmp_path / "k", tmp_path / "safe"
    safe.mkdir()
    assert edgepick("keys", "init", "--dir", folder, "--root-keys", 3, "--threshold", 2, "--fleet", "three").code == 0
    for number in (1, 2, 3):
        (folder / f"root-{number}.pem").rename(safe / f"root-{number}.pem")

    proposed = edgepick("keys", "rotate", "release", "--keys", folder, "--json").json()
    blocked = edgepick("keys", "revoke", "0" * 16, "--keys", folder)
    one = edgepick(
        "keys", "sign-root", proposed["file"], "--keys", folder, "--key", f"file:{safe}/root-1.pem", "--json"
    )
    again = edgepick(
        "keys", "sign-root", proposed["file"], "--keys", folder, "--key", f"file:{safe}/root-1.pem", "--json"
    )
    shown = edgepick("keys", "show", "--keys", folder, "--json").json()
    monkeypatch.setenv("THIRD", (safe / "root-3.pem").read_text())
    two = edgepick("keys", "sign-root", proposed["file"], "--keys", folder, "--key", "env:THIRD", "--json")

    assert (proposed["in_force"], proposed["signed_by"], proposed["missing"]) == (False, [], [2, 2])
    assert (blocked.code, "waits for signatures" in blocked.err) == (1, True)
    assert one.json()["missing"] == again.json()["missing"] == [1, 1]
    assert (shown["version"], shown["pending"]) == (1, proposed["file"])
    assert two.json()["in_force"] is True
    assert not (folder / "root-2.pending").exists()
    document = signed(folder / "root.signed")
    assert all(verified_by_openssl(document, safe / f"root-{number}.pem", tmp_path) for number in (1, 3))


def test_root_keys_are_replaced_and_the_threshold_with_them(site, edgepick):
    """A new root role is signed by the old key and by as many new ones as it asks for; the old then counts no more."""
    old = site.keys / "root.pem"

    change = edgepick("keys", "rotate", "root", "--root-keys", 3, "--threshold", 2, "--json").json()
    with_old = edgepick("keys", "rotate", "release", "--root-key", f"file:{old}")
    with_new = edgepick("keys", "rotate", "release", "--json").json()

    shown = edgepick("keys", "show", "--json").json()
    assert change["in_force"] is True
    assert len(change["new_files"]) == 3
    assert shown["thresholds"] == {"root": 2, "release": 1, "campaign": 1}
    assert (with_old.code, "is not a root key" in with_old.err) == (4, True)
    assert (with_new["in_force"], with_new["version"]) == (True, 3)


def test_openssl_may_be_a_root_key_holder(site, edgepick, tmp_path):
    """A signature that openssl made with a root key is as good as ours."""
    (site.keys / "root.pem").rename(tmp_path / "root.pem")
    proposed = edgepick("keys", "rotate", "campaign", "--json").json()
    path = site.keys / "root-2.pending"
    document = signed(path)
    (tmp_path / "m").write_bytes(signed_bytes(DocumentType.ROOT, document.payload))
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", "root.pem", "-in", "m", "-out", "s", folder=tmp_path)
    signature = {
        "key_id": key_id(public_key_by_openssl(tmp_path, "root.pem")),
        "signature": (tmp_path / "s").read_bytes().hex(),
    }
    header = json.dumps({"signatures": [signature], "type": "root"}).encode()
    path.write_bytes(header + b"\n" + document.payload)

    done = edgepick("keys", "sign-root", path, "--json").json()

    assert proposed["in_force"] is False
    assert done["in_force"] is True
    assert app.read_root(site.settings())[0].version == 2


def test_a_key_is_revoked_while_another_of_its_role_stays(site, edgepick):
    """Of two release keys one is taken away; the last one cannot be, and an unknown id is refused."""
    (first,) = by_role(edgepick)["release"]
    edgepick("keys", "rotate", "release", "--keep-old")
    both = by_role(edgepick)["release"]

    revoked = edgepick("keys", "revoke", first, "--json").json()
    last = edgepick("keys", "revoke", by_role(edgepick)["release"][0])
    unknown = edgepick("keys", "revoke", "0" * 16)

    assert first in both
    assert len(both) == 2
    assert revoked["removed"] == [["release", first]]
    assert by_role(edgepick)["release"] == [key for key in both if key != first]
    assert key_id(public_key_by_openssl(site.keys, "release.pem")) in by_role(edgepick)["release"]
    assert (last.code, "keys rotate release" in last.err) == (4, True)
    assert (unknown.code, "names no key" in unknown.err) == (4, True)


def test_a_stranger_signs_no_root_document(site, edgepick, tmp_path):
    """A key that is no root key adds nothing, and the file stays as it was."""
    (site.keys / "root.pem").rename(tmp_path / "root.pem")
    edgepick("keys", "rotate", "release")
    before = (site.keys / "root-2.pending").read_bytes()

    done = edgepick("keys", "sign-root", "keys/root-2.pending", "--key", f"file:{site.keys}/campaign.pem")

    assert (done.code, "is not a root key" in done.err) == (4, True)
    assert (site.keys / "root-2.pending").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"rubbish", b'{"signatures":[],"type":"manifest"}\n{}'])
def test_only_a_root_document_is_signed(site, edgepick, tmp_path, content):
    """Any other file is refused with exit code 2, naming the file."""
    (tmp_path / "f").write_bytes(content)

    done = edgepick("keys", "sign-root", tmp_path / "f", "--key", f"file:{site.keys}/root.pem")

    assert done.code == 2
    assert str(tmp_path / "f") in done.err


def test_a_document_that_is_not_the_next_is_not_signed(site, edgepick, tmp_path):
    """A root document of the version in force, or of another fleet, gets no signature."""
    edgepick("keys", "init", "--dir", tmp_path / "other", "--fleet", "other")

    same = edgepick("keys", "sign-root", site.keys / "root.signed", "--key", f"file:{site.keys}/root.pem")
    other = edgepick("keys", "sign-root", tmp_path / "other/root.signed", "--key", f"file:{site.keys}/root.pem")

    assert (same.code, other.code) == (4, 4)
    assert f"version 2 of '{FLEET}'" in same.err


@pytest.mark.parametrize(("keys", "threshold"), [(1, 2), (2, 3)])
def test_a_threshold_that_nobody_could_meet_is_refused(edgepick, site, tmp_path, keys, threshold):
    """More signatures than keys make a fleet that cannot change: refused, and no file is left."""
    made = edgepick("keys", "init", "--dir", tmp_path / "k", "--root-keys", keys, "--threshold", threshold)
    before = sorted(p.name for p in site.keys.iterdir())
    rotated = edgepick("keys", "rotate", "root", "--root-keys", keys, "--threshold", threshold)

    assert (made.code, rotated.code) == (2, 2)
    assert not (tmp_path / "k").exists()
    assert sorted(p.name for p in site.keys.iterdir()) == before


def test_a_change_is_finished_after_a_crash(site, edgepick):
    """A new key that was never put in its place, the document in force already, is put there by the next change."""
    edgepick("keys", "rotate", "release")
    (counting,) = by_role(edgepick)["release"]
    old = next(site.keys.glob("release-*.pem"))
    (site.keys / "release.pem").rename(site.keys / f"release-{counting}.pem")
    old.rename(site.keys / "release.pem")

    edgepick("keys", "rotate", "campaign")

    assert key_id(public_key_by_openssl(site.keys, "release.pem")) == counting
