"""A private key in an environment variable, for a container or a CI job: ``env:EDGEPICK_CAMPAIGN_KEY``."""

import os

from edgepick_host.core.keypair import KeySigner, from_pem
from edgepick_host.errors import ConfigError


def open_signer(place: str) -> KeySigner:
    """Return the signer whose PEM text the variable ``place`` holds.

    Raises:
        ConfigError: The variable is not set.
        InputFileError: It holds no key.
    """
    text = os.environ.get(place)
    if not text:
        raise ConfigError(f"environment variable {place} is not set", hint="Put the key's PEM text into it.")
    return from_pem(text, f"environment variable {place}")
