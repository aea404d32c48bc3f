"""New keys on disk: private files in a private folder, never replacing another."""

import contextlib
import os
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path

from edgepick_host.core.keypair import SEED_BYTES, KeySigner, from_pem, to_pem
from edgepick_host.core.trust import Keyring, first_root_document, keyring
from edgepick_host.errors import InputFileError, StateError
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import key_id
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


def create_keyring(
    folder: Path, fleet: str, *, root_keys: int = 1, threshold: int = 1, config: Path | None = None
) -> Keyring:
    """Return new keys and the root document that names them, all in ``folder``.

    Args:
        folder: Made if it is new; left readable by its owner only.
        fleet: The fleet that they are for.
        root_keys: Root keys to make; more than one are ``root-1.pem`` and so on.
        threshold: Root keys that have to sign a root document.
        config: Configuration file to write too; ``None`` writes none.

    Raises:
        StateError: A file of these names exists (nothing was changed), or the folder cannot be written.
        BadNameError: The fleet's name is not allowed.
        MalformedError: ``threshold`` is not from 1 to ``root_keys``.
    """
    roots = ["root"] if root_keys == 1 else [f"root-{number + 1}" for number in range(root_keys)]
    _refuse_existing(folder, (*roots, "release", "campaign"))
    seeds = {name: secrets.token_bytes(SEED_BYTES) for name in (*roots, "release", "campaign")}
    keys = {name: KeySigner(seed) for name, seed in seeds.items()}
    document = first_root_document(
        fleet, [keys[name] for name in roots], keys["release"], keys["campaign"], threshold=threshold
    )
    _make_private(folder)
    for name, seed in seeds.items():
        write_new(folder / f"{name}.pem", to_pem(seed).encode())
    write_new(folder / ROOT_DOCUMENT, envelope.pack(document), mode=0o644)
    if config is not None:
        write_new(config, CONFIG_TEXT.format(fleet=fleet, keys=folder.name).encode(), mode=0o644)
    private = {key.public_key: str(folder / f"{name}.pem") for name, key in keys.items()}
    found = codec.decode(RootDocument, document.payload)
    return keyring(found, str(folder / ROOT_DOCUMENT), private, config=str(config) if config else None)


def create_key(folder: Path, role: str) -> tuple[Path, KeySigner]:
    """Return a new private key of a role, in a file of its own: ``release-0123456789abcdef.pem``.

    Raises:
        StateError: It cannot be written.
    """
    seed = secrets.token_bytes(SEED_BYTES)
    key = KeySigner(seed)
    path = folder / f"{role}-{key_id(key.public_key)}.pem"
    write_new(path, to_pem(seed).encode())
    return path, key


def key_files(folder: Path, role: str) -> dict[str, Path]:
    """Return the private keys of a role that lie in ``folder``, by public key; other files are passed over."""
    found: dict[str, Path] = {}
    for path in (folder / f"{role}.pem", *sorted(folder.glob(f"{role}-*.pem"))):
        try:
            found.setdefault(from_pem(path.read_text("ascii"), str(path)).public_key, path)
        except (OSError, UnicodeDecodeError, InputFileError):  # noqa: PERF203 - a key that is elsewhere is normal
            continue
    return found


def put_in_place(folder: Path, role: str, counting: Collection[str]) -> None:
    """Make ``ROLE.pem`` a key that counts, if ``folder`` has one; what was there stays, named by its id.

    Raises:
        StateError: The folder cannot be written.
    """
    place, found = folder / f"{role}.pem", key_files(folder, role)
    present = next((public for public, path in found.items() if path == place), None)
    better = next((path for public, path in found.items() if public in counting), None)
    if present in counting or better is None:
        return
    try:
        if present is not None:
            with contextlib.suppress(FileExistsError):
                os.link(place, folder / f"{role}-{key_id(present)}.pem")
        better.replace(place)
    except OSError as error:
        raise StateError(f"{place}: {(error.strerror or 'cannot be written').lower()}") from error


def version_file(root_document: Path, version: int) -> Path:
    """Return where one version of a root document is kept: ``root-2.signed`` beside ``root.signed``."""
    return root_document.with_name(f"{root_document.stem}-{version}{root_document.suffix}")


def pending_file(root_document: Path, version: int) -> Path:
    """Return where a next version waits for signatures: ``root-2.pending``."""
    return root_document.with_name(f"{root_document.stem}-{version}.pending")


def put_in_force(root_document: Path, old: tuple[int, bytes], new: tuple[int, bytes]) -> None:
    """Replace the root document; every version stays beside it, since devices follow them one by one.

    Raises:
        StateError: A file cannot be written.
    """
    for version, data in (old, new):
        kept = version_file(root_document, version)
        if not kept.exists():
            write_new(kept, data, mode=0o644)
    replace_file(root_document, new[1])
    pending_file(root_document, new[0]).unlink(missing_ok=True)


def chain_files(root_document: Path, newest: int) -> dict[int, bytes]:
    """Return the versions that are kept beside a root document, up to its own."""
    kept = {version: version_file(root_document, version) for version in range(1, newest + 1)}
    return {version: path.read_bytes() for version, path in kept.items() if path.is_file()}


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that may exist; what is there is either the old content or the new.

    Raises:
        StateError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StateError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from error


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


def _refuse_existing(folder: Path, keys: Sequence[str]) -> None:
    taken = [name for name in (*(f"{key}.pem" for key in keys), ROOT_DOCUMENT) if (folder / name).exists()]
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
