"""The broker by paho-mqtt: MQTT 3.1.1, clean sessions, reconnecting with jittered backoff.

Every loss of the connection is told in words, because "not connected" helps nobody.
"""

import contextlib
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from edgepick_agent.adapters.deferred import deferred

# For proxies, which paho reaches only through PySocks; with it come http.client and email, 1.3 MiB.
with deferred("urllib.request"):
    import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.reasoncodes import ReasonCode

from edgepick_agent.core.events import ChunksDelivered, Connected, Delivered, Disconnected, Oversized, TransportEvent
from edgepick_agent.core.fetch import TOPICS_PER_PACKET, Chunk
from edgepick_agent.core.intake import chunk_named
from edgepick_agent.core.packets import BrokenPacketError, PacketBuffer, published
from edgepick_agent.core.settings import BrokerSettings
from edgepick_agent.core.tls_words import alert_words, certificate_words
from edgepick_agent.errors import ConfigError
from edgepick_agent.ports import TakeChunk
from edgepick_wire.limits import MAX_PAYLOAD_BYTES

FIRST_PAUSE_SECONDS = 1.0
FAREWELL_SECONDS = 2.0
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.2
READS = 64
"""Most reads before what is to be sent gets its turn."""
TOLD_CHUNKS = 32
"""Most chunks told of at once, half a window: waking the loop costs as much as hashing a chunk."""
PUBLISH_QOS_0, PUBLISH_MASK = 0x30, 0xF6
"""First byte of a PUBLISH packet at QoS 0, and the bits that say so: all but DUP and RETAIN (section 3.3.1)."""
REFUSALS = {
    "Unsupported protocol version": "refused: the broker does not speak MQTT 3.1.1",
    "Client identifier not valid": "refused: the broker does not accept this client id",
    "Server unavailable": "refused: the broker says that it is unavailable",
    "Bad user name or password": "refused: bad user name or password",
    "Not authorized": "refused: not authorised (user name, password, or the broker's access list)",
}
"""What paho calls the return codes of MQTT 3.1.1's CONNACK (section 3.2.2.3), in our words."""


class MqttTransport:
    """Keeps :class:`edgepick_agent.ports.Transport`."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        will: tuple[str, bytes],
        sink: Callable[[TransportEvent], None],
        take: TakeChunk,
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._take = take
        self._up = threading.Event()
        self._refusal: str | None = None
        self._alert: str | None = None
        self._tls: ssl.SSLContext | None = None
        self._chunks: list[Chunk] = []
        self._client = self._make_client(client_id, will)

    def _make_client(self, client_id: str, will: tuple[str, bytes]) -> "_Client":
        client = _Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True, protocol=MQTTProtocolVersion.MQTTv311
        )
        client.will_set(will[0], will[1], qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.deliver = self._deliver
        client.handled = self._hand_on
        client.broken = self._note_alert
        client.on_socket_open = client.opened
        _log_in(client, self._settings)
        if self._settings.tls:
            self._tls = _tls_context(self._settings)
            self._tls.sslsocket_class = _ClosingSocket
            client.tls_set_context(self._tls)
            client.on_pre_connect = self._reload_certificates
        self._spread(client)
        return client

    def _spread(self, client: paho.Client) -> None:
        """Draw fresh pauses, so that a fleet does not return in step."""
        first = FIRST_PAUSE_SECONDS * random.uniform(0.5, 1.5)
        longest = max(first, self._settings.reconnect_max_seconds * random.uniform(0.5, 1.0))
        client.reconnect_delay_set(min_delay=cast("int", first), max_delay=cast("int", longest))

    # --- the port ---

    def start(self) -> None:
        """Begin to connect, and keep at it."""
        self._client.connect_async(self._settings.host, self._settings.port, self._settings.keepalive_seconds)
        self._client.loop_start()

    def subscribe(self, topics: Iterable[tuple[str, int]]) -> None:
        """Subscribe, eight topics per packet."""
        for packet in _packets(topics):
            self._client.subscribe(list(packet))

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Unsubscribe, eight topics per packet."""
        for packet in _packets(topics):
            self._client.unsubscribe(list(packet))

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand a message to the broker; without a connection it is dropped."""
        if self._up.is_set():
            self._client.publish(topic, payload, qos=qos, retain=retain)

    def stop(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Say goodbye if that is possible, and disconnect."""
        if farewell is not None and self._up.is_set():
            sent = self._client.publish(farewell[0], farewell[1], qos=1, retain=True)
            with contextlib.suppress(ValueError, RuntimeError):
                sent.wait_for_publish(FAREWELL_SECONDS)
        self._client.end(STOP_SECONDS)

    # --- from paho's thread ---

    def _reload_certificates(self, _client: object, _data: object) -> None:
        """Take what lies on disk now, so that a renewed certificate counts at the next connection.

        Files that cannot be read in the middle of being replaced leave the old ones in use.
        """
        self._alert = None
        if self._tls is not None:
            with contextlib.suppress(OSError):
                _load_files(self._tls, self._settings)

    def _note_alert(self, reason: str | None) -> None:
        """Keep why TLS ended the connection: TLS 1.3 refuses a certificate after the handshake (RFC 8446, 4.4.2.4)."""
        words = alert_words(reason)
        self._alert = words and f"{self._settings.host}:{self._settings.port}: {words}"

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: ReasonCode, _props: object) -> None:
        if reason.is_failure:
            self._refusal = REFUSALS.get(reason.getName(), f"refused: {reason.getName().lower()}")
            self._sink(Disconnected(self._refusal))
            return
        self._refusal = None
        self._up.set()
        self._sink(Connected())

    def _on_connect_fail(self, _client: object, _data: object) -> None:
        self._sink(Disconnected(in_words(sys.exc_info()[1], self._settings)))

    def _on_disconnect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _props: object
    ) -> None:
        was_up = self._up.is_set()
        self._up.clear()
        if was_up:
            self._spread(client)
        lost = "disconnected" if not reason.is_failure else f"connection lost ({reason.getName().lower()})"
        self._sink(Disconnected(self._refusal or self._alert or lost))

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._deliver(message.topic, memoryview(message.payload))

    def _deliver(self, topic: str, payload: memoryview, missing: int = 0) -> None:
        digest = chunk_named(topic)
        if len(payload) + missing > MAX_PAYLOAD_BYTES:
            self._sink(Oversized(topic, len(payload) + missing))
        elif digest is None:
            self._hand_on()
            self._sink(Delivered(topic, bytes(payload)))
        elif (chunk := self._take(digest, payload)) is not None:
            self._chunks.append(chunk)
            if len(self._chunks) >= TOLD_CHUNKS:
                self._hand_on()

    def _hand_on(self) -> None:
        """Tell of the chunks that came together as one event."""
        if self._chunks:
            chunks, self._chunks = tuple(self._chunks), []
            self._sink(ChunksDelivered(chunks))


class _Client(paho.Client):
    """paho, except for how it reads: all that has come at once, and no chunk is copied on its way to its file.

    paho reads a packet in at least five system calls and copies its payload three times.
    ``_packet_read`` is not part of its documented interface: the contract tests of the transport hold
    this to what paho does.
    """

    deliver: Callable[[str, memoryview, int], None]
    """Given topic, payload (valid for the time of the call), and how many bytes of it were too many to be kept."""
    handled: Callable[[], None]
    """Told that all that has come was given to ``deliver``."""
    broken: Callable[[str | None], None] = staticmethod(lambda _reason: None)
    """Told why TLS ended the connection, if it did."""
    _buffer: PacketBuffer

    def end(self, seconds: float) -> None:
        """Disconnect, and wait for the network thread for at most ``seconds``; it is a daemon.

        A thread that is just reconnecting misses a disconnection, and ``loop_stop`` would wait for
        it for ever: so it is told again.
        """
        self._thread_terminate = True
        thread, deadline = self._thread, time.monotonic() + seconds
        self.disconnect()
        while thread is not None and thread.is_alive() and time.monotonic() < deadline:
            thread.join(LOOK_SECONDS)
            self.disconnect()

    def opened(self, _client: object, _data: object, connection: Any) -> None:
        """Begin a connection: with an empty buffer, and small packets sent without waiting for more.

        The waiting of RFC 896 would hold back the asks for chunks.
        """
        self._buffer = PacketBuffer()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _packet_read(self) -> MQTTErrorCode:
        """Take in all that has come."""
        try:
            for _ in range(READS):
                rc = self._read_once()
                if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    break
        finally:
            self.handled()
        return rc

    def _read_once(self) -> MQTTErrorCode:
        try:
            count = self._receive()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except (OSError, ValueError) as error:
            self.broken(getattr(error, "reason", None))
            count = 0
        if not count:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()
        self._buffer.filled(count)
        try:
            return self._handle_all()
        except (BrokenPacketError, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _receive(self) -> int:
        connection: Any = self._sock
        return int(connection.recv_into(self._buffer.room())) if connection is not None else 0

    def _handle_all(self) -> MQTTErrorCode:
        for command, body, missing in self._buffer.packets():
            if command & PUBLISH_MASK == PUBLISH_QOS_0:
                self.deliver(*published(body), missing)
                continue
            rc = self._handle_by_paho(command, body)
            if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return rc
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_by_paho(self, command: int, body: memoryview) -> MQTTErrorCode:
        self._in_packet = {
            "command": command,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(body),
            "packet": bytearray(body),
            "to_process": 0,
            "pos": 0,
        }
        return self._packet_handle()


def plain_client(settings: BrokerSettings, client_id: str) -> paho.Client:
    """Return a client of the device's broker with its login and TLS, and nothing else."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True, protocol=MQTTProtocolVersion.MQTTv311
    )
    _log_in(client, settings)
    if settings.tls:
        client.tls_set_context(_tls_context(settings))
    return client


def in_words(error: BaseException | None, settings: BrokerSettings) -> str:
    """Return what went wrong while connecting, as a person would say it."""
    where = f"{settings.host}:{settings.port}"
    if isinstance(error, ssl.SSLError):
        return f"{where}: {_tls_words(error)}"
    if isinstance(error, socket.gaierror):
        return f"{where}: name not found"
    if isinstance(error, ConnectionRefusedError):
        return f"{where}: connection refused; does the broker run there?"
    if isinstance(error, TimeoutError):
        return f"{where}: no answer"
    return f"{where}: {getattr(error, 'strerror', None) or error or 'cannot connect'}"


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_words(error.verify_code, error.verify_message)
    reason = getattr(error, "reason", None) or str(error)
    return alert_words(reason) or f"TLS failed ({reason.replace('_', ' ').lower()})"


def _log_in(client: paho.Client, settings: BrokerSettings) -> None:
    if settings.username is not None:
        client.username_pw_set(settings.username, _password(settings.password_file))


def _password(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        hint = "Put the password alone into that file, readable by the agent's user."
        raise ConfigError(f"broker.password_file {path}: {error}", hint=hint) from error


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        _load_files(context, settings)
    except OSError as error:  # ssl.SSLError is one
        hint = "`ca_file`, `cert_file` and `key_file` are PEM files, readable by the agent's user."
        raise ConfigError(f"broker TLS files: {error}", hint=hint) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_files(context: ssl.SSLContext, settings: BrokerSettings) -> None:
    if settings.ca_file is not None:
        context.load_verify_locations(settings.ca_file)
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)


class _ClosingSocket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails; paho forgets it open."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl.SSLSocket
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _packets(topics: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    packet: tuple[Any, ...] = ()
    for topic in topics:
        packet = (*packet, topic)
        if len(packet) == TOPICS_PER_PACKET:
            yield packet
            packet = ()
    if packet:
        yield packet
