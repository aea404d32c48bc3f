"""The broker port over paho-mqtt: MQTT 3.1.1, QoS 1, one connection, its own dispatch thread.

Rules:
- Messages are handed to subscribers by a thread of their own, so that a handler may publish and
  wait for the acknowledgement; the network thread never waits for anybody.
- Nothing but ``host:port`` of the broker's address appears in a message: a URL may hold a password.
"""

import contextlib
import logging
import queue
import ssl
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode

from edgepick_host.adapters.mqtt.subscriptions import Collected, Subscription, is_wildcard
from edgepick_host.adapters.mqtt.tls import client_context, handshake_trouble, load_certificate
from edgepick_host.core.settings import BrokerSettings
from edgepick_host.core.tls_words import TlsTrouble, alert_trouble
from edgepick_host.errors import BrokerRefusedError, UnreachableError
from edgepick_host.ports import OnMessage

WINDOW = 16
"""Messages in flight at one time: below mosquitto's ``max_inflight_messages`` (20), and 1 MiB of chunks."""

ACK_SECONDS = 30.0
"""How long an acknowledgement may take, reconnecting included, before the broker counts as lost."""

PAGE_SECONDS = 0.1
"""Silence after which :meth:`MqttBroker.retained` asks for its next filter."""

SHARE_SECONDS = 1.0
"""How long the message may take that tells whether shared subscriptions work."""

NO_SUBSCRIPTION = "edgepick-nothing"
"""A filter that nobody here subscribes to."""

SUBSCRIPTION_REFUSED = 0x80
"""MQTT 3.1.1, section 3.9.3: the failure code of a SUBACK."""

_log = logging.getLogger(__name__)


class MqttBroker:
    """Keeps :class:`edgepick_host.ports.Broker`.

    Args:
        settings: Where the broker is and how to log in.
        client_id: Unique on the broker; a random one by default.
        birth: Retained ``(topic, payload)`` published at every connection.
        will: Retained ``(topic, payload)`` that the broker publishes when this connection is lost.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str = "",
        birth: tuple[str, bytes] | None = None,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._birth = birth
        self._will = will
        self._changed = threading.Condition()
        self._acknowledged: set[int] = set()
        self._granted: dict[int, bool] = {}
        self._behind: set[int] = set()
        self._connected = False
        self._refusal = ""
        self._lost = False
        self._alert: TlsTrouble | None = None
        self._tls: ssl.SSLContext | None = None
        self._subscriptions: list[Subscription] = []
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._dispatcher = threading.Thread(target=self._dispatch, name="edgepick-broker", daemon=True)
        self._client = self._new_client(client_id or f"edgepick-host-{uuid.uuid4().hex[:12]}")

    def connect(self, *, timeout_seconds: float = 10.0) -> None:
        """Return once connected; from then on it reconnects by itself.

        Raises:
            UnreachableError: No answer in time.
            BrokerRefusedError: Wrong password or not allowed.
            ConfigError: A certificate file is missing or wrong.
        """
        self._client.connect_timeout = timeout_seconds
        # Nothing is written before the network thread reads: it would hide why TLS ended the connection.
        self._client.on_socket_register_write = lambda *_: None
        self._dial()
        self._client.loop_start()
        self._client.on_socket_register_write = None
        self._dispatcher.start()
        self._wait(lambda: self._connected or self._lost or bool(self._refusal), timeout_seconds)
        if not self._connected:
            self.close()
            raise self._no_connection()

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Return once the broker has acknowledged (QoS 1).

        Raises:
            UnreachableError: It did not, in ``ACK_SECONDS``.
        """
        self._await_ack(self._send(topic, payload, retain=retain))

    def publish_many(
        self, messages: Iterable[tuple[str, bytes]], *, on_done: Callable[[int], None], retain: bool = True
    ) -> None:
        """Publish messages with at most ``WINDOW`` in flight.

        ``messages`` may be a generator: it is asked for the next only when there is room. ``on_done``
        gets the number acknowledged so far, once for each message, in order.

        Raises:
            UnreachableError: An acknowledgement did not come.
        """
        in_flight: deque[int] = deque()
        done = 0
        for topic, payload in messages:
            in_flight.append(self._send(topic, payload, retain=retain))
            if len(in_flight) >= WINDOW:
                done = self._settle(in_flight, done, on_done)
        while in_flight:
            done = self._settle(in_flight, done, on_done)

    def subscribe(self, topics: Sequence[str], on_message: OnMessage) -> None:
        """Deliver every message on these filters (QoS 1); subscribed again after a reconnect.

        Raises:
            BrokerRefusedError: The broker does not allow it.
            UnreachableError: It did not answer.
        """
        subscription = Subscription(tuple(topics), on_message)
        with self._changed:
            self._subscriptions.append(subscription)
        self._ask(subscription.topics)

    def retained(self, topics: Sequence[str], *, quiet_seconds: float = 0.5) -> dict[str, bytes]:
        """Return the current retained messages on these filters, once none has come for ``quiet_seconds``.

        It returns at once when every filter is a plain topic and each has been answered. A broker
        queues a bounded number of messages for one subscriber (mosquitto: 1,000) and discards the
        rest without a word; so the filters are asked one after the other, each when the last has
        fallen silent. One filter that matches more than about 1,000 retained messages may still miss
        some: right for the births of a fleet of some hundreds, wrong for chunks. A message that
        has been cleared is left out. Silence counts if the broker has an answer, but nothing else, to say then:
        a machine that stood still for a moment heard nothing either.

        Raises:
            BrokerRefusedError: The broker does not allow it.
            UnreachableError: It did not answer.
        """
        collected = Collected(self._changed)
        with contextlib.ExitStack() as listening:
            for topic in dict.fromkeys(topics):
                listening.enter_context(self._listening(topic, collected.keep))
                if is_wildcard(topic):
                    collected.pause(PAGE_SECONDS)
            collected.wait(quiet_seconds, lambda: all(topic in collected.found for topic in topics), self._catch_up)
        return {topic: payload for topic, payload in collected.found.items() if payload}

    def shares(self, topic: str) -> bool:
        """Return whether the broker deals the messages of a shared subscription out; tried on a topic of nobody's.

        Not every broker refuses what it does not know: some take ``$share/...`` for an ordinary filter, on which
        nothing ever comes.

        Raises:
            UnreachableError: It did not answer.
        """
        came = threading.Event()
        try:
            with self._listening(f"$share/edgepick-try/{topic}", lambda _topic, _payload: came.set()):
                self.publish(topic, b"", retain=False)
                if not came.wait(SHARE_SECONDS):
                    self._catch_up()
                return came.is_set()
        except BrokerRefusedError:
            return False

    def close(self) -> None:
        """Disconnect; the last will is not sent, and nothing is delivered afterwards."""
        self._client.disconnect()
        self._client.loop_stop()
        if self._client.socket() is not None:  # it was just reconnecting, and missed the first call
            self._client.disconnect()
        self._inbox.put(None)
        if self._dispatcher.is_alive() and threading.current_thread() is not self._dispatcher:
            self._dispatcher.join(5.0)

    def _new_client(self, client_id: str) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv311)
        client.reconnect_delay_set(1, 30)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._settings.password)
        if self._settings.tls:
            self._tls = client_context(self._settings)
            client.tls_set_context(self._tls)
            client.on_pre_connect = self._reload_certificates
        if self._will:
            client.will_set(*self._will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        return client

    def _dial(self) -> None:
        try:
            self._client.connect(self._settings.host, self._settings.port, self._settings.keepalive_seconds)
        except ssl.SSLError as error:
            trouble = handshake_trouble(error)
            raise UnreachableError(
                f"broker {self._settings.place}: no trusted TLS connection: {trouble.words}", hint=trouble.hint
            ) from error
        except (OSError, ValueError) as error:
            raise UnreachableError(
                f"broker {self._settings.place} cannot be reached: {_words(error)}",
                hint="Start the broker, or name another with --broker mqtt://host:port.",
            ) from error

    def _no_connection(self) -> UnreachableError | BrokerRefusedError:
        if self._refusal:
            return BrokerRefusedError(
                f"broker {self._settings.place} refused the connection: {self._refusal}",
                hint="Check the user and password: mqtt://user:password@host, EDGEPICK_BROKER_PASSWORD or "
                "password_file in [broker].",
            )
        if self._alert:
            return BrokerRefusedError(f"broker {self._settings.place}: {self._alert.words}", hint=self._alert.hint)
        what = "closed the connection" if self._lost else "accepted the connection but did not answer"
        return UnreachableError(
            f"broker {self._settings.place} {what}",
            hint="Is it an MQTT broker, and is TLS (mqtts://) right or wrong for this port?",
        )

    def _send(self, topic: str, payload: bytes, *, retain: bool) -> int:
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise UnreachableError(f"broker {self._settings.place}: {paho.error_string(info.rc)}")
        return info.mid

    def _settle(self, in_flight: deque[int], done: int, on_done: Callable[[int], None]) -> int:
        self._await_ack(in_flight.popleft())
        on_done(done + 1)
        return done + 1

    def _await_ack(self, mid: int) -> None:
        if not self._wait(lambda: mid in self._acknowledged, ACK_SECONDS):
            raise UnreachableError(
                f"broker {self._settings.place} did not acknowledge a message within {ACK_SECONDS:.0f} s",
                hint="Run the command again: what has been published is not published twice.",
            )
        with self._changed:
            self._acknowledged.discard(mid)

    def _ask(self, topics: Sequence[str]) -> None:
        rc, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            return  # the reconnection subscribes
        if not self._wait(lambda: mid in self._granted, ACK_SECONDS):
            raise UnreachableError(f"broker {self._settings.place} did not answer a subscription")
        with self._changed:
            granted = self._granted.pop(mid or 0)
        if not granted:
            raise BrokerRefusedError(
                f"broker {self._settings.place} does not allow to read {', '.join(topics)}",
                hint="Give this host's user read access to the fleet's topics in the broker's access list.",
            )

    def _catch_up(self) -> None:
        """Return once everything that the broker sent until now has been handed over.

        It answers packets in the order in which they come, so that it is asked for something that changes nothing:
        to end a subscription that there is not (MQTT 3.1.1, section 3.10.4).

        Raises:
            UnreachableError: It did not answer.
        """
        with self._changed:
            rc, mid = self._client.unsubscribe(NO_SUBSCRIPTION)
            if rc == MQTTErrorCode.MQTT_ERR_NO_CONN or mid is None:
                return  # the reconnection subscribes
            self._behind.add(mid)
        if not self._wait(lambda: mid not in self._behind, ACK_SECONDS):
            raise UnreachableError(f"broker {self._settings.place} did not answer within {ACK_SECONDS:.0f} s")

    @contextlib.contextmanager
    def _listening(self, topic: str, on_message: OnMessage) -> Iterator[None]:
        subscription = Subscription((topic,), on_message)
        with self._changed:
            self._subscriptions.append(subscription)
        try:
            self._ask([topic])
            yield
        finally:
            with self._changed:
                self._subscriptions.remove(subscription)
                still_wanted = any(topic in s.topics for s in self._subscriptions)
            if not still_wanted:
                self._client.unsubscribe(topic)

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(done, seconds)

    def _dispatch(self) -> None:
        while (work := self._inbox.get()) is not None:
            _guarded(work)

    def _caught_up(self, mid: int) -> None:
        with self._changed:
            self._behind.discard(mid)
            self._changed.notify_all()

    def _announce(self) -> None:
        if self._birth:
            self.publish(*self._birth, retain=True)

    # Called by paho's network thread; none of these may wait.

    def _reload_certificates(self, _client: Any, _userdata: Any) -> None:
        """Take what lies on disk now, so that a renewed certificate counts without a restart of the service."""
        if self._tls is not None:
            with contextlib.suppress(OSError):  # just being replaced: the old one goes on
                load_certificate(self._tls, self._settings)

    def _on_connect(self, client: paho.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self._changed:
            if reason.is_failure:
                self._refusal = str(reason).lower()
            else:
                self._refusal = ""
                self._alert = None
                self._connected = True
            topics = [(topic, 1) for s in self._subscriptions for topic in s.topics]
            self._changed.notify_all()
        if topics and not reason.is_failure:
            client.subscribe(topics)
            # Whoever hears it may answer at once, so nobody is told before there is a subscription.
            self._inbox.put(self._announce)

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self._changed:
            self._connected = False
            self._lost = True
            self._changed.notify_all()
            why = self._alert.words if self._alert else reason
        if reason.is_failure:
            _log.warning("broker %s: connection lost (%s)", self._settings.place, why)

    def _on_log(self, _client: Any, _userdata: Any, level: int, text: str) -> None:
        """Keep why TLS ended the connection: TLS 1.3 refuses a certificate after the handshake (RFC 8446, 4.4.2.4)."""
        if level == LogLevel.MQTT_LOG_ERR:
            with self._changed:
                self._alert = alert_trouble(text) or self._alert

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, _reason: Any, _properties: Any) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()

    def _on_subscribe(self, _client: Any, _userdata: Any, mid: int, reasons: Any, _properties: Any) -> None:
        with self._changed:
            self._granted[mid] = all(reason.value < SUBSCRIPTION_REFUSED for reason in reasons)
            self._changed.notify_all()

    def _on_unsubscribe(self, _client: Any, _userdata: Any, mid: int, _reasons: Any, _properties: Any) -> None:
        self._inbox.put(lambda: self._caught_up(mid))

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        with self._changed:
            wanting = [s for s in self._subscriptions if s.wants(topic)]
        for subscription in wanting:
            self._inbox.put(lambda s=subscription: s.on_message(topic, payload))  # type: ignore[misc]


def _guarded(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001 - one handler's bug must not silence every later message
        _log.exception("a handler of broker messages failed")


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).lower()
