"""Who gets which messages, and how retained ones are gathered until no more come."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt import client as paho

from edgepick_host.ports import OnMessage

RETAINED_SECONDS = 30.0
"""Longest time that :meth:`MqttBroker.retained` collects, however much keeps coming."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Filters and who gets their messages."""

    topics: tuple[str, ...]
    on_message: OnMessage

    def wants(self, topic: str) -> bool:
        """Return whether a message on ``topic`` is for it."""
        return any(paho.topic_matches_sub(_plain(filter_), topic) for filter_ in self.topics)


class Collected:
    """Messages gathered until they stop coming; ``changed`` guards it and is told of each."""

    def __init__(self, changed: threading.Condition) -> None:
        self.found: dict[str, bytes] = {}
        self._changed = changed
        self._count = 0
        self._heard = time.monotonic()

    def keep(self, topic: str, payload: bytes) -> None:
        """Take in a message; the newest on a topic counts."""
        with self._changed:
            self.found[topic] = payload
            self._count += 1
            self._heard = time.monotonic()
            self._changed.notify_all()

    def pause(self, quiet_seconds: float) -> None:
        """Return when nothing has come for ``quiet_seconds``, or after ``RETAINED_SECONDS``."""
        self._listen(quiet_seconds, lambda: False, time.monotonic() + RETAINED_SECONDS)

    def wait(self, quiet_seconds: float, done: Callable[[], bool], catch_up: Callable[[], None]) -> None:
        """Return when ``done``, or when nothing has come for ``quiet_seconds`` nor while the broker was asked for more.

        After ``RETAINED_SECONDS`` it returns whatever still comes.

        Args:
            quiet_seconds: A silence after which the broker is asked.
            done: Whether nothing more is wanted.
            catch_up: Returns once all that was sent before the call has been kept.
        """
        deadline, before = time.monotonic() + RETAINED_SECONDS, -1
        while self._count != before:
            self._listen(quiet_seconds, done, deadline)
            if done() or time.monotonic() >= deadline:
                return
            before = self._count
            catch_up()

    def _listen(self, quiet_seconds: float, done: Callable[[], bool], deadline: float) -> None:
        self._heard = time.monotonic()
        with self._changed:
            while not done() and (left := min(self._heard + quiet_seconds, deadline) - time.monotonic()) > 0:
                self._changed.wait(left)


def _plain(topic_filter: str) -> str:
    """Return what a filter matches, its share taken off."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter


def is_wildcard(topic: str) -> bool:
    """Return whether a filter stands for more than one topic."""
    return bool({"+", "#"} & set(topic))
