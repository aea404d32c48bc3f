"""One MQTT connection without a thread of its own: whoever holds it says when to read and when to write."""

import selectors
import ssl
import time
from collections.abc import Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgepick_host.core.settings import BrokerSettings
from edgepick_host.errors import BrokerRefusedError, UnreachableError

CONNECT_SECONDS = 20.0
LOOK_SECONDS = 0.05
RETRY_SECONDS = 1.0
IN_FLIGHT = 1000
"""Messages on their way that the broker has not acknowledged; more wait here."""
TOPICS_PER_PACKET = 100
"""Topics in one SUBSCRIBE: some 10 KiB, which every broker takes."""


class Link:
    """A connection.

    Args:
        settings: Where the broker is, and how to log in.
        client_id: Unique on the broker.
        selector: Told about the socket, with this link as its data.
        will: Retained ``(topic, payload)`` that the broker publishes when the connection is lost.

    Attributes:
        sent: Messages published.
        sent_bytes: Bytes of their payloads.
        unacknowledged: Messages published that the broker has not acknowledged.
        fresh: It was connected, and nobody has taken note of that.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        selector: selectors.BaseSelector,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.sent = 0
        self.sent_bytes = 0
        self.unacknowledged = 0
        self.fresh = False
        self._settings = settings
        self._selector = selector
        self._heard: list[tuple[str, bytes]] = []
        self._refusal = ""
        self._connected = False
        self._dropped = False
        self._retry_at = 0.0
        self._client = self._new_client(client_id, will)

    def connect(self) -> None:
        """Return once connected.

        Raises:
            UnreachableError: No answer.
            BrokerRefusedError: Wrong password, or not allowed.
        """
        place = self._settings.place
        try:
            self._client.connect(self._settings.host, self._settings.port, self._settings.keepalive_seconds)
        except OSError as error:
            raise UnreachableError(
                f"broker {place} cannot be reached: {error.strerror or error}",
                hint="Start the broker, or name another with --broker mqtt://host:port.",
            ) from error
        deadline = time.monotonic() + CONNECT_SECONDS
        while not self._connected and not self._refusal and time.monotonic() < deadline and self._client.socket():
            self.flush()
            self._wait()
        if self._refusal:
            raise BrokerRefusedError(f"broker {place} refused the connection: {self._refusal}", hint="Check the user.")
        if not self._connected:
            raise UnreachableError(f"broker {place} did not answer", hint="Has it room for so many connections?")

    @property
    def busy(self) -> bool:
        """Whether something waits to be written."""
        return self._client.want_write()

    def read(self) -> list[tuple[str, bytes]]:
        """Return what has arrived."""
        self._client.loop_read()
        while self._decrypted():
            self._client.loop_read()
        heard, self._heard = self._heard, []
        return heard

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it."""
        self._client.loop_write()

    def look_after(self) -> None:
        """Keep the connection alive, or try to have one again."""
        self._client.loop_misc()
        now = time.monotonic()
        if self._client.socket() is None and not self._dropped and now >= self._retry_at:
            self._retry_at = now + RETRY_SECONDS
            try:
                self._client.reconnect()
            except OSError:
                return

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Hand a message over; it is written at the next :meth:`flush`."""
        self.sent += 1
        self.sent_bytes += len(payload)
        self.unacknowledged += 1
        self._client.publish(topic, payload, qos=1, retain=retain)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for these topics, at the next :meth:`flush`."""
        for start in range(0, len(topics), TOPICS_PER_PACKET):
            self._client.subscribe([(topic, 1) for topic in topics[start : start + TOPICS_PER_PACKET]])

    def unsubscribe(self, topic: str) -> None:
        """Ask for this topic no longer."""
        self._client.unsubscribe(topic)

    def drop(self) -> None:
        """Be gone without a word; the broker publishes the last will."""
        self._dropped = True
        self.unacknowledged = 0
        found = self._client.socket()
        if found is not None:
            self._selector.unregister(found)
            found.close()
            self._client.on_socket_close = None

    def close(self) -> None:
        """Disconnect; the last will is not published."""
        if not self._dropped:
            self._dropped = True
            self._client.disconnect()
            self.flush()

    def _decrypted(self) -> int:
        """Return how many bytes were received with earlier ones and decrypted: no selector tells of those."""
        found = self._client.socket()
        return found.pending() if isinstance(found, ssl.SSLSocket) else 0

    def _wait(self) -> None:
        """Wait for an answer; a timeout of the socket's own would count as a lost connection."""
        found = self._client.socket()
        if found is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(found, selectors.EVENT_READ)
            if selector.select(LOOK_SECONDS):
                self._client.loop_read()

    def _new_client(self, client_id: str, will: tuple[str, bytes] | None) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv311)
        client.max_inflight_messages_set(IN_FLIGHT)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._settings.password)
        if self._settings.tls:
            client.tls_set(self._settings.ca_file, self._settings.cert_file, self._settings.key_file)
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = lambda *_: None  # nothing is written but by flush
        return client

    def _on_socket_open(self, _client: Any, _userdata: Any, opened: Any) -> None:
        self._selector.register(opened, selectors.EVENT_READ, self)

    def _on_socket_close(self, _client: Any, _userdata: Any, closed: Any) -> None:
        self._selector.unregister(closed)

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._refusal = str(reason).lower() if reason.is_failure else ""
        self._connected = self.fresh = not reason.is_failure

    def _on_disconnect(self, *_: Any) -> None:
        self._connected = False

    def _on_publish(self, *_: Any) -> None:
        self.unacknowledged -= 1

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self._heard.append((message.topic, bytes(message.payload)))
