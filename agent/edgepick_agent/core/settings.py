"""What a device is told about itself: the validated content of ``agent.toml``.

Defaults stand here; ``config.py`` reads and checks the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_wire.enums import StrEnum

DEFAULT_CONFIG = "/etc/edgepick/agent.toml"
DEFAULT_STATE = "/var/lib/edgepick-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """How to reach the broker.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: Encrypt and verify the broker.
        ca_file: Certificates that may sign the broker's; ``None`` for the system's.
        cert_file: This device's certificate.
        key_file: Its private key.
        username: For password authentication.
        password_file: File that holds the password; a secret is a path, never a value.
        keepalive_seconds: MQTT keep-alive.
        reconnect_max_seconds: Longest pause between two attempts.
    """

    host: str
    port: int = 1883
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    keepalive_seconds: int = 30
    reconnect_max_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How to download.

    Attributes:
        window: Most chunks asked for at one time; bounds memory to window x chunk size.
        timeout_seconds: Silence after which missing chunks are asked for again; sooner on a quick link.
        retries: Times a chunk is asked for before the device reports it missing and waits longer.
        bytes_per_second: Most bytes of chunks per second, on average; ``None`` for as fast as it goes.
        hours: Time of day in which chunks are asked for, local time: ``"22:00-06:00"``; ``None`` for always.
            Neither holds for a bundle from a stick.
        sources: Where chunks are fetched, preferred first; the broker is always among them.
        site_cache: URL template that is asked instead of the manifest's sources.
        ca_file: Certificates that may sign those of the HTTPS sources; ``None`` for the system's.
    """

    window: int = 64
    timeout_seconds: float = 5.0
    retries: int = 5
    bytes_per_second: int | None = None
    hours: str | None = None
    sources: tuple[str, ...] = ("mqtt",)
    site_cache: str | None = None
    ca_file: str | None = None


class Sandbox(StrEnum):
    """How far runners are shut in."""

    AUTO = "auto"
    """As far as the kernel can; ``status`` says what it cannot."""
    REQUIRED = "required"
    """Completely, or no model runs."""
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """How models are run.

    Attributes:
        python: Interpreter of the runner; ``None`` for the agent's own.
        runtimes: Runtimes that may be used, preferred first; empty allows every installed one.
        memory_cap_bytes: Cap of a runner when the manifest names none; ``None`` for no cap.
        max_failures: Failed starts or crashes in a row before falling back to the previous variant.
        healthy_seconds: Time without a failure after which the count starts again.
        backoff_seconds: Pause after the first failure; doubles with each further one.
        backoff_max_seconds: Longest pause.
        health_interval_seconds: Time between two looks at a runner.
        confirm_seconds: Time a new variant must serve in good health before it is confirmed.
        tcp_port: Serve inference on this loopback port too; ``None`` for the Unix socket only.
        concurrency: Copies of a model, each of which answers one request at a time.
        queue: Requests that may wait for a copy; a further one is refused.
        queue_seconds: Longest wait of a request.
        request_bytes: Longest request; ``None`` for what the model's inputs can need.
        sandbox: How far runners are shut in; a value of :class:`Sandbox`.
    """

    python: str | None = None
    runtimes: tuple[str, ...] = ()
    memory_cap_bytes: int | None = None
    max_failures: int = 3
    healthy_seconds: float = 60.0
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 60.0
    health_interval_seconds: float = 0.5
    confirm_seconds: float = 3.0
    tcp_port: int | None = None
    concurrency: int = 1
    queue: int = 32
    queue_seconds: float = 10.0
    request_bytes: int | None = None
    sandbox: str = Sandbox.AUTO.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSettings:
    """How to learn what the board draws, where it cannot tell itself.

    Attributes:
        command: Program and arguments that print watts, a number per line: once, or again and again. It is
            started again when it ends.
        mqtt_topic: Topic on the device's broker where a smart plug publishes watts, as a number or as JSON.
        mqtt_key: Where the number lies in that JSON, by keys with dots: "ENERGY.Power".
        period_seconds: Time between two fresh values of the external meter.
        watts: Typical power of the busy board, for labelled estimates where nothing is measured.
    """

    command: tuple[str, ...] = ()
    mqtt_topic: str | None = None
    mqtt_key: str | None = None
    period_seconds: float = 1.0
    watts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """One device.

    Attributes:
        device: Its id, unique in the fleet.
        fleet: The fleet it belongs to.
        profile: The kind of device it is.
        state_dir: Where everything it keeps lies.
        root_document: File with the fleet's signed root document.
        stand_in: This machine is not the board that ``profile`` names; every figure says so.
        labels: For people and for rollout queries.
        sensors: Power sensors to try, in order; empty tries all.
        sysfs_root: "/" on a board; a recorded tree in tests.
    """

    device: str
    fleet: str
    profile: str
    state_dir: str = DEFAULT_STATE
    root_document: str
    stand_in: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    sensors: tuple[str, ...] = ()
    sysfs_root: str = "/"
    broker: BrokerSettings
    fetch: FetchSettings = field(default_factory=FetchSettings)
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    power: PowerSettings = field(default_factory=PowerSettings)
