"""The text of a new ``agent.toml``: every key, with its meaning; what is a default is commented out."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from edgepick_agent.core.settings import DEFAULT_STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConfig:
    """What ``edgepick-agent init`` found out or was told."""

    device: str
    fleet: str
    profile: str
    state_dir: str
    root_document: str
    broker_host: str
    broker_port: int
    tls: bool
    stand_in: bool
    remarks: tuple[str, ...] = ()


def config_text(new: NewConfig) -> str:
    """Return a complete, commented configuration; reading it gives back exactly what ``new`` says."""
    return "\n".join([*_comments(new.remarks), *_device(new), *_broker(new), *_rest()]) + "\n"


def text(value: str) -> str:
    """Return ``value`` as a TOML basic string.

    JSON's escapes are TOML's, except that TOML wants DEL escaped too (toml.io/en/v1.0.0#string).
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comments(lines: Iterable[str]) -> list[str]:
    return [f"# {' '.join(line.split())}" for line in lines]


def _device(new: NewConfig) -> list[str]:
    state = f"state_dir = {text(new.state_dir)}"
    stand_in = f"stand_in = {str(new.stand_in).lower()}"
    return [
        "",
        "# Unique in the fleet: 1 to 64 of a-z 0-9 . _ -",
        f"device = {text(new.device)}",
        f"fleet = {text(new.fleet)}",
        "# The kind of device; `edgepick profiles list` on the host shows the known ones.",
        f"profile = {text(new.profile)}",
        "# The fleet's signed root document: which keys this device trusts. A relative path is relative to this file.",
        f"root_document = {text(new.root_document)}",
        "# Everything that the agent keeps: models, reports not yet sent, what it has confirmed.",
        state if new.state_dir != DEFAULT_STATE else f"# {state}",
        "# true: this machine only stands in for the board that `profile` names; every figure says so.",
        stand_in if new.stand_in else f"# {stand_in}",
        "# Power sensors to try, in order; empty tries all:",
        "# hwmon-ina3221 hwmon-ina2xx powercap-rapl rpi5-pmic power-supply",
        "# sensors = []",
    ]


def _broker(new: NewConfig) -> list[str]:
    return [
        "",
        "[broker]",
        f"host = {text(new.broker_host)}",
        f"port = {new.broker_port}",
        "# Encrypt, and verify the broker's certificate.",
        f"tls = {str(new.tls).lower()}" if new.tls else "# tls = false",
        '# ca_file = "ca.pem"                  # who may sign it; default: the system\'s certificates',
        '# cert_file = "device.pem"            # this device\'s certificate and key, if the broker wants them',
        '# key_file = "device.key"',
        '# username = "pi-7"',
        '# password_file = "broker.password"   # a file that holds the password; chmod 600',
        "# keepalive_seconds = 30",
        "# reconnect_max_seconds = 60.0        # longest pause between two attempts",
    ]


def _rest() -> list[str]:
    return [
        "",
        "[fetch]",
        "# window = 64                         # most chunks asked for at one time; 64 x 64 KiB bound memory to 4 MiB",
        "# timeout_seconds = 5.0               # silence after which missing chunks are asked for again",
        "# retries = 5",
        "# bytes_per_second = 500000           # of models, on average; default: as fast as it goes",
        '# hours = "22:00-06:00"               # when models may be fetched, local time; default: always',
        '# sources = ["mqtt"]                  # or ["https", "mqtt"]: the manifest\'s HTTPS sources first',
        '# site_cache = "https://cache.site/{sha256}"   # asked instead of them; http:// only at a private address',
        '# ca_file = "site-ca.pem"             # who may sign the certificates of HTTPS; default: the system\'s',
        "",
        "[runner]",
        '# python = "/opt/tflite/bin/python"   # interpreter of the models, if not the agent\'s own',
        "# runtimes = []                       # allowed ones, preferred first: litert tflite_runtime onnxruntime tflm",
        "# memory_cap_bytes = 268435456        # cap of a runner when the bundle names none",
        "# max_failures = 3                    # in a row, before falling back to the previous variant",
        "# healthy_seconds = 60.0",
        "# backoff_seconds = 1.0",
        "# backoff_max_seconds = 60.0",
        "# health_interval_seconds = 0.5",
        "# confirm_seconds = 3.0               # good health before a new variant is confirmed",
        "# tcp_port = 8080                     # serve inference on this loopback port too",
        "# concurrency = 1                     # copies of a model; each answers one request at a time",
        "# queue = 32                          # requests that may wait for a copy; a further one is refused",
        "# queue_seconds = 10.0                # longest wait of a request",
        "# request_bytes = 1000000             # longest request; default: what the model's inputs can need",
        '# sandbox = "auto"                    # no network, no other files; "required": or no model runs; "off"',
        "",
        "[power]",
        '# command = ["meter", "--watts"]      # an external meter: prints watts, one number per line',
        '# mqtt_topic = "tele/plug/SENSOR"     # or a smart plug on the broker, its watts as a number or as JSON',
        '# mqtt_key = "ENERGY.Power"           # where they lie in that JSON',
        "# period_seconds = 1.0                # time between two fresh values; measuring takes 200 of them",
        "# watts = 3.0                         # of the busy board: where nothing is measured, for labelled estimates",
        "",
        "# For people and for rollout queries.",
        "[labels]",
        '# site = "hall-3"',
    ]
