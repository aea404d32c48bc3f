"""Keys and the root document."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from edgepick_host.app.composition import KEY_FILES, broker_of, keys_of, load, signer, store_of, verify_signature
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import (
    Key,
    Keyring,
    RootChange,
    check_signers,
    keyring,
    role_of,
    root_change,
    sign,
    signed_also,
    with_role,
    without_key,
)
from edgepick_host.errors import ConfigError, HostError, InputFileError, StateError, VerificationError
from edgepick_host.ports import Broker, HostStore, Signer
from edgepick_host.service import succession
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType, Envelope, Role, key_id
from edgepick_wire.errors import WireError
from edgepick_wire.trust import RootDocument, first_root, next_root


def create_keys(folder: Path, fleet: str, *, root_keys: int = 1, threshold: int = 1, config: Path | None) -> Keyring:
    """Return new keys and the root document that names them, all in ``folder``.

    Raises:
        StateError: Files of these names exist, or cannot be written.
        BadNameError: The fleet's name is not allowed.
        ConfigError: ``threshold`` is not from 1 to ``root_keys``.
    """
    _check_threshold(threshold, root_keys, "root")
    made = _files("create_keyring")(folder, fleet, root_keys=root_keys, threshold=threshold, config=config)
    return cast("Keyring", made)


def read_root(settings: HostSettings) -> tuple[RootDocument, bytes]:
    """Return the fleet's root document and its signed bytes.

    Raises:
        InputFileError: There is none.
        VerificationError: It does not carry its own signatures.
    """
    path = Path(settings.root_document)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputFileError(
            f"{path}: {(error.strerror or 'cannot be read').lower()} (the fleet's root document)",
            hint="`edgepick keys init` makes keys and a root document.",
        ) from error
    try:
        return first_root(envelope.unpack(data), verify_signature()), data
    except WireError as error:
        raise VerificationError(f"{path}: {error}", hint="Restore it from a device or from a copy.") from error


def read_chain(settings: HostSettings) -> Mapping[int, bytes]:
    """Return every version of the root document that this host keeps, its newest included."""
    document, data = read_root(settings)
    chain: dict[int, bytes] = _files("chain_files")(Path(settings.root_document), document.version)
    return {**chain, document.version: data}


def show_keys(settings: HostSettings) -> Keyring:
    """Return the keys that count in this fleet, and which of them this host holds.

    Raises:
        InputFileError: No root document.
        VerificationError: It does not carry its own signatures.
    """
    document, _ = read_root(settings)
    path = Path(settings.root_document)
    found: dict[str, Path] = _files("key_files")(path.parent, "root")
    private = {public: f"file:{place}" for public, place in found.items()}
    for address in (*settings.signers.of("release"), *settings.signers.of("campaign")):
        with contextlib.suppress(HostError):  # a key that is elsewhere is the normal case
            private[signer(address).public_key] = address
    pending = _pending(path, document.version + 1)
    return keyring(document, settings.root_document, private, pending=str(pending) if pending.exists() else None)


def rotate_keys(
    settings: HostSettings,
    role: str,
    *,
    adopt: Sequence[str] = (),
    count: int | None = None,
    threshold: int | None = None,
    keep_old: bool = False,
    root_keys: Sequence[str] = (),
) -> RootChange:
    """Return the next root document, in which ``role`` has new keys; in force if enough root keys signed it.

    Args:
        settings: The host's settings.
        role: "root", "release" or "campaign".
        adopt: Addresses of the new keys; empty makes new ones in the folder of the root document.
        count: New root keys to make; as many as there were if ``None``.
        threshold: Keys of the role that have to sign from then on; as before if ``None``.
        keep_old: The old keys go on counting beside the new.
        root_keys: Addresses of the root keys that sign; those in the folder if empty.

    Raises:
        StateError: Another next version waits for signatures, or a file cannot be written.
        VerificationError: A root key is named that does not count.
        MalformedError: The threshold is not from 1 to the number of keys.
    """
    current, _ = read_root(settings)
    _refuse_pending(settings, current)
    signing = _root_signers(settings, current, root_keys)
    old = role_of(current, role)
    folder = Path(settings.root_document).parent
    wanted = 0 if adopt else (count or len(old.keys)) if role == "root" else 1
    keys = (len(adopt) or wanted) + (len(old.keys) if keep_old else 0)
    least = threshold or old.threshold
    _check_threshold(least, keys, role)
    made: list[tuple[Path, Key]] = [_files("create_key")(folder, role) for _ in range(wanted)]
    new: list[Key] = [*(signer(address) for address in adopt), *(key for _, key in made)]
    publics = (*(old.keys if keep_old else ()), *(key.public_key for key in new))
    document = with_role(current, role, Role(threshold=least, keys=publics))
    change = _propose(settings, current, document, [*signing, *(new if role == "root" else [])])
    changed = _addresses(role, adopt) if adopt and role != "root" else ()
    return replace(change, new_files=_places(made, folder / f"{role}.pem"), settings=changed)


def _addresses(role: str, adopt: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return what the configuration has to say of the new keys; a list as TOML."""
    others = ", ".join(f'"{address}"' for address in adopt[1:])
    return ((f"signers.{role}", adopt[0]), *(((f"signers.{role}_cosigners", f"[{others}]"),) if others else ()))


def _check_threshold(threshold: int, count: int, role: str) -> None:
    if not 1 <= threshold <= count:
        raise ConfigError(
            f"a threshold of {threshold} with {count} {role} keys",
            hint=f"--threshold may be 1 to {count}; or name or make more.",
        )


def _places(made: Sequence[tuple[Path, Key]], moved: Path) -> tuple[str, ...]:
    """Return where the new private keys are now: one that counts may have taken the place of its predecessor."""
    return tuple(str(path if path.exists() else moved) for path, _ in made)


def revoke_key(settings: HostSettings, revoked: str, *, root_keys: Sequence[str] = ()) -> RootChange:
    """Return the next root document, in which a key no longer counts; in force if enough root keys signed it.

    Raises:
        StateError: Another next version waits for signatures, or a file cannot be written.
        VerificationError: There is no such key, or its role could not sign any more without it.
    """
    current, _ = read_root(settings)
    _refuse_pending(settings, current)
    document = without_key(current, revoked)
    return _propose(settings, current, document, _root_signers(settings, current, root_keys))


def sign_root(settings: HostSettings, file: Path, addresses: Sequence[str]) -> RootChange:
    """Return how far a next root document is, once these keys have signed it too; in force if it is complete.

    Raises:
        InputFileError: No such file, or not a root document.
        VerificationError: A key is named that is neither a present nor a new root key, or the
            document is not the next one of this fleet.
    """
    current, _ = read_root(settings)
    document, new = _read_proposal(file)
    if (new.fleet, new.version) != (current.fleet, current.version + 1):
        raise VerificationError(
            f"{file}: version {new.version} of fleet {new.fleet!r}; the next after {settings.root_document} is "
            f"version {current.version + 1} of {current.fleet!r}",
            hint="Have the fleet's newest root document at hand; --keys names its folder.",
        )
    keys = [signer(address) for address in addresses]
    _check_root_keys(keys, (*current.root.keys, *new.root.keys))
    return _settle(settings, current, signed_also(document, keys), file)


def _read_proposal(file: Path) -> tuple[Envelope, RootDocument]:
    hint = "Give the file that `edgepick keys rotate` or `edgepick keys revoke` wrote."
    try:
        found = envelope.unpack(file.read_bytes())
        if found.type is not DocumentType.ROOT:
            raise InputFileError(f"{file}: a signed {found.type}, not a root document", hint=hint)
        return found, codec.decode(RootDocument, found.payload)
    except OSError as error:
        raise InputFileError(f"{file}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error
    except WireError as error:
        raise InputFileError(f"{file}: not a root document: {error}", hint=hint) from error


def _root_signers(settings: HostSettings, current: RootDocument, addresses: Sequence[str]) -> list[Signer]:
    """Return the root keys that are named, or else those that lie beside the root document."""
    found: dict[str, Path] = _files("key_files")(Path(settings.root_document).parent, "root")
    beside = [f"file:{path}" for public, path in found.items() if public in current.root.keys]
    keys = [signer(address) for address in addresses or beside]
    _check_root_keys(keys, current.root.keys)
    return keys


def _check_root_keys(keys: Sequence[Key], counting: Sequence[str]) -> None:
    for key in keys:
        if key.public_key not in counting:
            raise VerificationError(
                f"key {key_id(key.public_key)} is not a root key", hint="`edgepick keys show` lists the root keys."
            )


def _refuse_pending(settings: HostSettings, current: RootDocument) -> None:
    pending = _pending(Path(settings.root_document), current.version + 1)
    if pending.exists():
        raise StateError(
            f"{pending} waits for signatures; one change at a time",
            hint=f"Complete it (`edgepick keys sign-root {pending} --key ADDRESS`), or delete it.",
        )


def _propose(settings: HostSettings, current: RootDocument, document: RootDocument, keys: Sequence[Key]) -> RootChange:
    signed = sign(DocumentType.ROOT, codec.encode(document), keys)
    return _settle(settings, current, signed, _pending(Path(settings.root_document), document.version))


def _settle(settings: HostSettings, current: RootDocument, signed: Envelope, file: Path) -> RootChange:
    """Put a complete root document into force; keep any other where it waits."""
    change = root_change(current, signed, str(file), verify_signature())
    data = envelope.pack(signed)
    _files("replace_file")(file, data)
    if any(change.missing):
        return change
    following = next_root(current, signed, verify_signature())
    place = Path(settings.root_document)
    _files("put_in_force")(place, (current.version, place.read_bytes()), (following.version, data))
    for role, address in (("release", settings.signers.release), ("campaign", settings.signers.campaign)):
        if address == f"file:{place.parent / role}.pem":
            _files("put_in_place")(place.parent, role, role_of(following, role).keys)
    return replace(change, in_force=True, file=str(place))


def _pending(root_document: Path, version: int) -> Path:
    return cast("Path", _files("pending_file")(root_document, version))


def _files(name: str) -> Any:
    return load(f"{KEY_FILES}:{name}")


def publish_keys(settings: HostSettings) -> succession.Renewed:
    """Return what the broker was given so that every device follows the newest root document.

    Raises:
        UnreachableError: No broker.
        VerificationError: The broker serves another fleet's root document, or the campaign key does not count.
    """
    document, _ = read_root(settings)
    campaign = keys_of(settings, "campaign")
    check_signers(document, fleet=settings.fleet, release=None, campaign=campaign)
    with broker_of(settings) as broker, store_of(settings) as store:
        work = succession_of(settings, broker, store)
        work.check()
        return work.renew()


def succession_of(settings: HostSettings, broker: Broker, store: HostStore) -> succession.Succession:
    """Return what hands a broker over from older root documents to the newest."""
    document, _ = read_root(settings)
    return succession.Succession(
        root=document,
        chain=read_chain(settings),
        broker=broker,
        place=settings.broker.place,
        store=store,
        release=_release_keys(settings, document),
        campaign=keys_of(settings, "campaign"),
        check_signature=verify_signature(),
    )


def _release_keys(settings: HostSettings, document: RootDocument) -> tuple[Signer, ...]:
    """Return the release keys, if this host has as many that count as have to sign; none otherwise."""
    with contextlib.suppress(HostError):
        keys = keys_of(settings, "release")
        check_signers(document, fleet=document.fleet, release=keys, campaign=None)
        return keys
    return ()
