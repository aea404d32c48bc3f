"""Ranges of files by HTTPS: certificates are verified, the connection is kept, one thread per range.

Imported on first use only: most devices never pay for it. Nothing is judged here but the protocol.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import SplitResult, urljoin, urlsplit

from edgepick_agent.core.effects import FetchRange
from edgepick_agent.core.events import Event, RangeDelivered, RangeEnded
from edgepick_agent.core.fetch import Chunk
from edgepick_agent.core.settings import FetchSettings
from edgepick_agent.ports import TakeChunk

BATCH_CHUNKS = 8
REDIRECTS = 3
REDIRECTING = frozenset({301, 302, 303, 307, 308})


class _UselessError(Exception):
    """What the source does wrong."""


class _Range:
    """One range under way."""

    def __init__(self, asked: FetchRange) -> None:
        self.asked = asked
        self.cancelled = False
        self.connection: http.client.HTTPConnection | None = None

    def cancel(self) -> None:
        """Have the thread that reads see an end at once."""
        self.cancelled = True
        held = self.connection.sock if self.connection is not None else None
        if held is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                # The TCP connection itself: the TLS layer above is another thread's.
                socket.socket.shutdown(held, socket.SHUT_RDWR)


class HttpsSource:
    """Keeps :class:`edgepick_agent.ports.RangeSource`.

    Args:
        settings: Whose certificates are trusted, and the longest silence.
        sink: Takes the events, from a thread of its own.
        take: Takes the chunks, in the same thread.
    """

    def __init__(self, settings: FetchSettings, sink: Callable[[Event], None], take: TakeChunk) -> None:
        self._settings = settings
        self._sink = sink
        self._take_chunk = take
        self._kept: tuple[str, http.client.HTTPConnection] | None = None
        self._lock = threading.Lock()
        self._range: _Range | None = None
        self._closed = False

    def begin(self, asked: FetchRange) -> None:
        """Begin to fetch; returns at once."""
        self._range = _Range(asked)
        threading.Thread(target=self._run, args=(self._range,), name="https", daemon=True).start()

    def cancel(self) -> None:
        """Stop what is under way."""
        if self._range is not None:
            self._range.cancel()

    def close(self) -> None:
        """Stop, and keep no connection."""
        self.cancel()
        with self._lock:
            kept, self._kept, self._closed = self._kept, None, True
        if kept is not None:
            kept[1].close()

    def _run(self, flight: _Range) -> None:
        try:
            self._fetch(flight, flight.asked.url)
            problem = None
        except _UselessError as error:
            problem = str(error)
        except ssl.SSLError as error:
            problem = f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
        except TimeoutError:
            problem = f"nothing came for {self._settings.timeout_seconds:g} s"
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = str(error) or type(error).__name__
        if not flight.cancelled:
            self._sink(RangeEnded(flight.asked.key, problem))

    def _fetch(self, flight: _Range, url: str) -> None:
        for _ in range(REDIRECTS + 1):
            connection, place, response = self._answer(flight, url)
            if response.status not in REDIRECTING:
                self._read(flight, connection, place, response)
                return
            connection.close()
            url = urljoin(url, response.headers.get("Location", ""))
            if not url.startswith("https://"):
                raise _UselessError(f"it redirects to {url[:100]!r}, which is not https")
        raise _UselessError(f"it redirects more than {REDIRECTS} times")

    def _answer(self, flight: _Range, url: str) -> tuple[http.client.HTTPConnection, str, http.client.HTTPResponse]:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        kept = self._take(place)
        for connection in [*([kept] if kept is not None else []), self._connection(parts)]:
            flight.connection = connection
            if flight.cancelled:
                raise _UselessError("cancelled")
            try:
                return connection, place, self._request(connection, parts, flight.asked)
            except (http.client.HTTPException, ConnectionError, ssl.SSLEOFError):
                connection.close()
                if connection is not kept:
                    raise  # a kept connection may have been closed meanwhile; a fresh one may not
            except OSError:
                connection.close()
                raise
        raise AssertionError

    def _request(
        self, connection: http.client.HTTPConnection, parts: SplitResult, asked: FetchRange
    ) -> http.client.HTTPResponse:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        last = asked.offset + asked.size - 1
        headers = {"Range": f"bytes={asked.offset}-{last}", "Accept-Encoding": "identity"}
        connection.request("GET", path, headers=headers)
        return connection.getresponse()

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        patience = self._settings.timeout_seconds
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.netloc, timeout=patience)
        trusted = ssl.create_default_context(cafile=self._settings.ca_file)
        return http.client.HTTPSConnection(parts.netloc, timeout=patience, context=trusted)

    def _read(
        self, flight: _Range, connection: http.client.HTTPConnection, place: str, response: http.client.HTTPResponse
    ) -> None:
        try:
            _check(response, flight.asked)
            self._deliver(flight, response)
        except BaseException:
            connection.close()
            raise
        flight.connection = None  # a late cancellation must not hit who uses it next
        if response.will_close:
            connection.close()
        else:
            self._keep(place, connection)

    def _deliver(self, flight: _Range, response: http.client.HTTPResponse) -> None:
        batch: list[Chunk] = []
        try:
            for digest, size in flight.asked.chunks:
                data = response.read(size)
                if flight.cancelled or len(data) != size:
                    raise _UselessError("the connection ended in the middle")
                chunk = self._take_chunk(digest, data)
                batch += [chunk] if chunk is not None else []
                if len(batch) == BATCH_CHUNKS:
                    self._sink(RangeDelivered(flight.asked.key, tuple(batch)))
                    batch.clear()
        finally:
            # What came whole before the connection broke is not fetched twice.
            if batch and not flight.cancelled:
                self._sink(RangeDelivered(flight.asked.key, tuple(batch)))

    def _take(self, place: str) -> http.client.HTTPConnection | None:
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None and kept[0] != place:
            kept[1].close()
            return None
        return kept[1] if kept is not None else None

    def _keep(self, place: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            kept, self._kept = self._kept, (place, connection)
            if self._closed:
                kept, self._kept = self._kept, kept
        if kept is not None:
            kept[1].close()


def _check(response: http.client.HTTPResponse, asked: FetchRange) -> None:
    if response.status == http.client.OK:
        raise _UselessError("it does not serve ranges (status 200 instead of 206)")
    if response.status != http.client.PARTIAL_CONTENT:
        raise _UselessError(f"status {response.status}")
    expected = f"bytes {asked.offset}-{asked.offset + asked.size - 1}/"
    found = response.headers.get("Content-Range", "")
    if found not in (f"{expected}{asked.file_size}", f"{expected}*"):
        raise _UselessError(f"it sends {found[:60]!r}, not {expected}{asked.file_size}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _UselessError("it sends the range in an encoded form")
    if response.length is not None and response.length != asked.size:
        raise _UselessError(f"it announces {response.length} bytes instead of {asked.size}")
