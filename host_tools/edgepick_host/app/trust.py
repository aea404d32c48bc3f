"""Keys and the root document."""

from pathlib import Path
from typing import cast

from edgepick_host.app.composition import CREATE_KEYRING, load, signer, verify_signature
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import Keyring, keyring
from edgepick_host.errors import HostError, InputFileError, VerificationError
from edgepick_wire import envelope
from edgepick_wire.errors import WireError
from edgepick_wire.trust import RootDocument, first_root


def create_keys(folder: Path, fleet: str, *, config: Path | None) -> Keyring:
    """Return three new keys and the root document that names them, all in ``folder``.

    Raises:
        StateError: Files of these names exist, or cannot be written.
        BadNameError: The fleet's name is not allowed.
    """
    return cast("Keyring", load(CREATE_KEYRING)(folder, fleet, config=config))


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


def show_keys(settings: HostSettings) -> Keyring:
    """Return the keys that count in this fleet, and which of them this host holds.

    Raises:
        InputFileError: No root document.
        VerificationError: It does not carry its own signatures.
    """
    document, _ = read_root(settings)
    root_key = f"file:{Path(settings.root_document).parent / 'root.pem'}"
    private = {}
    for address in (root_key, settings.signers.release, settings.signers.campaign):
        try:
            private[signer(address).public_key] = address
        except HostError:  # noqa: PERF203 - a key that is elsewhere is the normal case
            continue
    return keyring(document, settings.root_document, private)
