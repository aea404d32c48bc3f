"""Keys that are replaced while the service runs."""

import time
from collections.abc import Callable

from edgepick_host.app.composition import keys_of
from edgepick_host.app.trust import read_root
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import check_signers
from edgepick_host.errors import HostError

LOOK_SECONDS = 2.0
"""Pause between two looks at the root document."""


class KeyWatch:
    """Looks for a root document newer than the one in use, by which this host can sign.

    Args:
        settings: The host's settings.
        say: Gets a line for a person where the newer one cannot be used.
    """

    def __init__(self, settings: HostSettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._version = read_root(settings)[0].version
        self._failures = 0
        self._look_at = 0.0

    def replaced(self) -> int | None:
        """Return the version of the root document to go on with, if it is another one."""
        if time.monotonic() < self._look_at:
            return None
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            document, _ = read_root(self._settings)
            if document.version <= self._version:
                return None
            keys = keys_of(self._settings, "campaign")
            check_signers(document, fleet=self._settings.fleet, release=None, campaign=keys)
        except HostError as error:
            self._tell(error)
            return None
        return document.version

    def _tell(self, error: HostError) -> None:
        """Say it once, at the second look: the first may have come between two files of one rotation."""
        self._failures += 1
        if self._failures == 2:
            self._say(f"the keys have changed, and this service cannot sign with the new ones: {error}; restart it")
