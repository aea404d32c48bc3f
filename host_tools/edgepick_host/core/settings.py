"""What the host is told about itself: the validated content of ``edgepick.toml``.

Defaults stand here; ``config.py`` reads and checks the file, the environment and the flags.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

DEFAULT_FLEET = "main"
DEFAULT_DATABASE = "edgepick.db"
DEFAULT_KEYS = "keys"
PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Scheme of a broker's URL -> its port (IANA: 1883 plain, 8883 over TLS)."""


SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """How to reach the broker.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: Encrypt and verify the broker.
        username: For password authentication.
        password: Never printed.
        ca_file: Certificates that may sign the broker's; ``None`` for the system's.
        cert_file: This host's certificate.
        key_file: Its private key.
        keepalive_seconds: MQTT keep-alive.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    keepalive_seconds: int = 30

    @property
    def place(self) -> str:
        """Return ``host:port``, what a person needs to find it; holds no secret."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSettings:
    """Where the private keys are: ``file:keys/a.pem``, ``env:A_VARIABLE`` or ``exec:A_COMMAND``.

    Attributes:
        release: Signs manifests.
        campaign: Signs desired state.
        release_cosigners: More keys that sign manifests too, where the role's threshold is above one.
        campaign_cosigners: Likewise for desired state.
    """

    release: str = f"file:{DEFAULT_KEYS}/release.pem"
    campaign: str = f"file:{DEFAULT_KEYS}/campaign.pem"
    release_cosigners: tuple[str, ...] = ()
    campaign_cosigners: tuple[str, ...] = ()

    def of(self, role: str) -> tuple[str, ...]:
        """Return every address for the role "release" or "campaign"."""
        if role == "release":
            return (self.release, *self.release_cosigners)
        return (self.campaign, *self.campaign_cosigners)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """One host.

    Attributes:
        fleet: The fleet that it publishes to.
        broker: How to reach the broker.
        database: SQLite file, or a database URL.
        root_document: File with the fleet's signed root document.
        signers: Where the private keys are.
        profile_dirs: Directories of the user's own profiles.
        security_epoch: Epoch that new manifests get unless ``--epoch`` says otherwise.
        keep_reports_seconds: How long the service keeps reports that nothing needs; ``None`` for ever.
        source: The file that these were read from; ``None`` for defaults.
    """

    fleet: str = DEFAULT_FLEET
    broker: BrokerSettings = BrokerSettings()
    database: str = DEFAULT_DATABASE
    root_document: str = f"{DEFAULT_KEYS}/root.signed"
    signers: SignerSettings = SignerSettings()
    profile_dirs: tuple[str, ...] = ()
    security_epoch: int = 0
    keep_reports_seconds: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """A broker's URL, taken apart."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None = field(repr=False)


def parse_duration(text: str) -> float:
    """Return the seconds of ``90s``, ``10m``, ``1h``, ``30d`` or plain seconds.

    Raises:
        ValueError: Anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m, 1h or 30d")
    return float(match[1]) * SECONDS[match[2]]


def parse_broker_url(url: str) -> BrokerAddress:
    """Return the parts of ``mqtt://[user[:password]@]host[:port]`` (``mqtts`` for TLS).

    Raises:
        ValueError: Anything else; the message never repeats the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        port = parts.port
    except ValueError as error:
        raise ValueError("the port is not a number from 1 to 65535, or a bracket is missing") from error
    if parts.scheme not in PORTS:
        raise ValueError(f"scheme {parts.scheme!r}; allowed are mqtt:// and mqtts://")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("expected mqtt://[user[:password]@]host[:port] and nothing after it")
    return BrokerAddress(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
