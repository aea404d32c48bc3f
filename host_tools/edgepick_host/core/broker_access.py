"""Who may read and write which topics, and the files that tell a broker so. Pure text.

The table below is the broker's side of ``edgepick_wire.topics``: a device reaches its own topics and
what all devices read; only the host writes what devices obey. A test holds it against the topics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgepick_wire.enums import StrEnum
from edgepick_wire.limits import MAX_PAYLOAD_BYTES
from edgepick_wire.topics import PREFIX

HOST_USER = "@host"
"""Name in the host's certificate; ``@`` is in no device's name, so no device can be taken for the host."""

SHARED = ("root", "root/+", "host", "m/+", "c/+", "p/+/desired")
"""What every device reads, below the fleet's topic."""

DEVICE_READS = ("desired", "ack")
DEVICE_WRITES = ("birth", "presence", "reported", "report")
HOST_WRITES = (*SHARED, "d/+/desired", "d/+/ack")

MESSAGE_BYTES = MAX_PAYLOAD_BYTES + 4096
"""Largest payload that the broker lets through: the protocol's, and a little room."""

IN_FLIGHT = 64
"""Unacknowledged messages per client: the agent's window, so that a full window needs no pause."""

QUEUED = 10_000
"""Messages waiting per client: the chunks of a window, and the births of a fleet for a host that joins."""

CONNECTIONS = 10_000


class BrokerKind(StrEnum):
    """Brokers that a configuration is written for."""

    MOSQUITTO = "mosquitto"
    EMQX = "emqx"


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """A site's own broker.

    Attributes:
        name: Of the site.
        hosts: Names and addresses in the broker's certificate; the site's devices are told the first.
        port: Port of its TLS listener.
        place: Folder of the configuration on its machine.
    """

    name: str
    hosts: tuple[str, ...]
    port: int
    place: str

    @property
    def user(self) -> str:
        """Name in the bridge's certificate; no device and no host can have it."""
        return f"@site-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPlan:
    """What a broker was set up for; kept beside the authority, read again by every enrolment.

    Attributes:
        fleet: The fleet that its rules are for.
        hosts: Names and addresses in its certificate; devices are told the first.
        port: Port of the TLS listener.
        kind: Which broker.
        place: Folder of the configuration on the broker's machine.
        sites: Brokers of sites that are bridged to it.
    """

    fleet: str
    hosts: tuple[str, ...]
    port: int
    kind: BrokerKind
    place: str
    sites: tuple[SitePlan, ...] = ()


def server_files(plan: BrokerPlan) -> dict[str, str]:
    """Return name -> content of the broker's own configuration files."""
    if plan.kind is BrokerKind.EMQX:
        return {"acl.conf": emqx_acl(plan.fleet), "edgepick.hocon": emqx_conf(plan)}
    return {"acl": mosquitto_acl(plan.fleet, plan.sites), "mosquitto.conf": mosquitto_conf(plan)}


def mosquitto_acl(fleet: str, sites: Sequence[SitePlan] = ()) -> str:
    """Return mosquitto's access list: the host and the bridges of sites by name, every other user by pattern."""
    return "\n".join(_mosquitto_acl(f"{PREFIX}/{fleet}", sites)) + "\n"


def _mosquitto_acl(base: str, sites: Sequence[SitePlan]) -> Iterator[str]:
    yield "# Who may what. The user name is the common name of the client's certificate; nobody is anonymous."
    yield "# The host reads the whole fleet, and writes what devices obey or wait for."
    yield f"user {HOST_USER}"
    yield f"topic read {base}/#"
    yield from (f"topic write {base}/{topic}" for topic in HOST_WRITES)
    if sites:
        yield f"topic read {bridge_state('+')}"
    yield ""
    for site in sites:
        yield f"# The bridge of site {site.name} speaks for the devices there."
        yield f"user {site.user}"
        yield from (f"topic read {base}/{topic}" for topic in HOST_WRITES)
        yield from (f"topic write {base}/d/+/{kind}" for kind in DEVICE_WRITES)
        yield f"topic write {bridge_state(site.name)}"
        yield ""
    yield "# What every device reads. These are patterns only because they hold for every user; mosquitto remarks"
    yield "# at its start that they contain no %u, which is meant so."
    yield from (f"pattern read {base}/{topic}" for topic in SHARED)
    yield ""
    yield "# A device's own topics: %u is its name."
    yield from (f"pattern read {base}/d/%u/{kind}" for kind in DEVICE_READS)
    yield from (f"pattern write {base}/d/%u/{kind}" for kind in DEVICE_WRITES)


def bridge_state(site: str) -> str:
    """Return the retained topic, on both brokers, that says whether a site's bridge is connected: 1 or 0."""
    return f"$SYS/broker/connection/{site}/state"


def mosquitto_conf(plan: BrokerPlan) -> str:
    """Return a configuration of mosquitto 2.0 that stands for itself."""
    place = plan.place
    return f"""\
# mosquitto 2.0 for the edgepick fleet {plan.fleet!r}; written by `edgepick broker init`, docs/broker.md explains it.
per_listener_settings false

# Only known users, only their topics.
allow_anonymous false
acl_file {place}/acl

# Retained manifests and chunks are what devices come back to: they must survive a restart. What came after the last
# save is lost with the power; all of it is written each time, so a flash card with large models may want 300.
persistence true
persistence_location {place}/data/
autosave_interval 60
retain_available true

# Limits. Nothing of the protocol is larger than {MAX_PAYLOAD_BYTES} bytes.
message_size_limit {MESSAGE_BYTES}
max_inflight_messages {IN_FLIGHT}
max_queued_messages {QUEUED}
max_keepalive 3600

log_dest stderr
log_type error
log_type warning
log_type notice

listener {plan.port}
max_connections {CONNECTIONS}
# TLS 1.2 or newer; the name in a client's certificate is its user name.
tls_version tlsv1.2
cafile {place}/ca.pem
certfile {place}/server.pem
keyfile {place}/server.key
# Certificates that count no longer. Restart the broker after `edgepick devices expel`.
crlfile {place}/crl.pem
require_certificate true
use_identity_as_username true
"""


def emqx_acl(fleet: str) -> str:
    """Return the same rules in EMQX's file format; the last rule refuses everything else."""
    base = f"{PREFIX}/{fleet}"
    reads = [f"{base}/{topic}" for topic in SHARED] + [f"{base}/d/${{username}}/{kind}" for kind in DEVICE_READS]
    writes = [f"{base}/d/${{username}}/{kind}" for kind in DEVICE_WRITES]
    host_writes = [f"{base}/{topic}" for topic in HOST_WRITES]
    return "\n".join(
        [
            "%% Who may what; the user name is the common name of the client's certificate.",
            f'{{allow, {{username, "{HOST_USER}"}}, subscribe, ["{base}/#"]}}.',
            f'{{allow, {{username, "{HOST_USER}"}}, publish, {_erlang(host_writes)}}}.',
            f"{{allow, all, subscribe, {_erlang(reads)}}}.",
            f"{{allow, all, publish, {_erlang(writes)}}}.",
            "{deny, all}.",
            "",
        ]
    )


def _erlang(topics: list[str]) -> str:
    return "[" + ", ".join(f'"{topic}"' for topic in topics) + "]"


def emqx_conf(plan: BrokerPlan) -> str:
    """Return the part of EMQX 5's configuration that the rules need."""
    place = plan.place
    return f"""\
# Part of emqx.conf (EMQX 5) for the edgepick fleet {plan.fleet!r}; written by `edgepick broker init`.
mqtt {{
  max_packet_size = "{MESSAGE_BYTES}B"
  max_inflight = {IN_FLIGHT}
  max_mqueue_len = {QUEUED}
  peer_cert_as_username = cn
}}
retainer {{
  enable = true
  max_payload_size = "{MESSAGE_BYTES}B"
  backend {{ type = built_in_database, storage_type = disc }}
}}
authorization {{
  no_match = deny
  sources = [{{ type = file, enable = true, path = "{place}/acl.conf" }}]
}}
listeners.tcp.default.enable = false
listeners.ssl.default {{
  bind = "0.0.0.0:{plan.port}"
  max_connections = {CONNECTIONS}
  ssl_options {{
    versions = ["tlsv1.3", "tlsv1.2"]
    cacertfile = "{place}/ca.pem"
    certfile = "{place}/server.pem"
    keyfile = "{place}/server.key"
    verify = verify_peer
    fail_if_no_peer_cert = true
  }}
}}
"""


def agent_config(plan: BrokerPlan, device: str, profile: str) -> str:
    """Return a complete ``agent.toml``; its files lie beside it."""
    return f"""\
# Configuration of one edgepick device, made by `edgepick devices enroll`.
# `edgepick-agent config` shows every key with its default.
device = "{device}"
fleet = "{plan.fleet}"
profile = "{profile}"
root_document = "root.signed"

[broker]
host = "{plan.hosts[0]}"
port = {plan.port}
tls = true
ca_file = "ca.pem"
cert_file = "device.pem"
key_file = "device.key"
"""


def host_config(plan: BrokerPlan, folder: str) -> str:
    """Return the section of ``edgepick.toml`` that leads the host to this broker."""
    return f"""\
[broker]
url = "mqtts://{plan.hosts[0]}:{plan.port}"
ca_file = "{folder}/ca.pem"
cert_file = "{folder}/host.pem"
key_file = "{folder}/host.key"
"""
