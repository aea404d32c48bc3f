"""New keys on disk: private files in a private folder, never replacing another."""

import os
import secrets
from pathlib import Path

from edgepick_host.core.keypair import SEED_BYTES, KeySigner, to_pem
from edgepick_host.core.trust import ROLES, Keyring, first_root_document, keyring
from edgepick_host.errors import StateError
from edgepick_wire import codec, envelope
from edgepick_wire.trust import RootDocument

ROOT_DOCUMENT = "root.signed"
CONFIG_TEXT = """\
# edgepick on the host; docs/operator.md lists every key. Relative paths begin at this file.
fleet = "{fleet}"
database = "edgepick.db"
keys = "{keys}"
# security_epoch = 0
# profiles = ["profiles"]

[broker]
url = "mqtt://127.0.0.1:1883"
# password_file = "broker-password"   # user in the URL: mqtts://operator@broker.example
# ca_file = "ca.pem"
"""


def create_keyring(folder: Path, fleet: str, *, config: Path | None) -> Keyring:
    """Return three new keys and the root document that names them, all in ``folder``.

    Args:
        folder: Made if it is new; left readable by its owner only.
        fleet: The fleet that they are for.
        config: Configuration file to write too; ``None`` writes none.

    Raises:
        StateError: A file of these names exists (nothing was changed), or the folder cannot be written.
        BadNameError: The fleet's name is not allowed.
    """
    _refuse_existing(folder)
    seeds = {role: secrets.token_bytes(SEED_BYTES) for role in ROLES}
    signers = {role: KeySigner(seed) for role, seed in seeds.items()}
    document = first_root_document(fleet, signers["root"], signers["release"], signers["campaign"])
    _make_private(folder)
    for role, seed in seeds.items():
        write_new(folder / f"{role}.pem", to_pem(seed).encode())
    write_new(folder / ROOT_DOCUMENT, envelope.pack(document), mode=0o644)
    if config is not None:
        write_new(config, CONFIG_TEXT.format(fleet=fleet, keys=folder.name).encode(), mode=0o644)
    private = {signer.public_key: str(folder / f"{role}.pem") for role, signer in signers.items()}
    found = codec.decode(RootDocument, document.payload)
    return keyring(found, str(folder / ROOT_DOCUMENT), private, config=str(config) if config else None)


def write_new(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that must not exist yet; it appears whole or not at all.

    Raises:
        StateError: It exists, or cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # fails if the name is taken, unlike a rename
    except OSError as error:
        raise StateError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from error
    finally:
        part.unlink(missing_ok=True)


def _refuse_existing(folder: Path) -> None:
    taken = [name for name in (*(f"{role}.pem" for role in ROLES), ROOT_DOCUMENT) if (folder / name).exists()]
    if taken:
        raise StateError(
            f"{folder}: {', '.join(taken)} exist already; nothing was changed",
            hint="Use the keys that are there (`edgepick keys show`), or choose another folder with --dir.",
        )


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"{folder}: {(error.strerror or 'cannot be made').lower()}", hint="Choose another folder with --dir."
        ) from error
