import contextlib
import socket
import threading

import pytest

from edgepick_agent.adapters.mqtt import MqttTransport
from edgepick_agent.core.settings import BrokerSettings

CONNACK = b"\x20\x02\x00\x00"
PATIENCE_SECONDS = 60.0


@pytest.fixture
def silent_broker():
    """Provide the port of a broker that accepts every client, answers its CONNECT, and acknowledges nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                kept.append(connection)
                connection.recv(4096)
                connection.sendall(CONNACK)
                if len(kept) == 1:
                    connection.recv(4096)  # the message that will never be acknowledged
                    connection.close()

        def until_closed() -> None:
            with contextlib.suppress(OSError):
                serve()

        thread = threading.Thread(target=until_closed, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_SECONDS)
    for connection in kept:
        connection.close()


def test_a_stop_in_the_middle_of_a_reconnection_ends(silent_broker):
    """Stopping ends the network thread, also if it was reconnecting and a message was never acknowledged."""
    connected, reconnecting, told = threading.Event(), threading.Event(), threading.Event()
    settings = BrokerSettings(host="127.0.0.1", port=silent_broker)
    transport = MqttTransport(
        settings, "agent", ("will", b""), lambda _event: connected.set(), lambda _digest, _data: None
    )
    client = transport._client
    opened, disconnect, openings = client.on_socket_open, client.disconnect, []

    def hold(*arguments) -> None:
        openings.append(arguments)
        if len(openings) == 2:
            reconnecting.set()
            told.wait(PATIENCE_SECONDS)  # the disconnection comes while there is no connection to end
        opened(*arguments)

    def note() -> object:
        result = disconnect()
        told.set()
        return result

    client.on_socket_open, client.disconnect = hold, note
    transport.start()
    assert connected.wait(PATIENCE_SECONDS)
    transport.publish("topic", b"payload", qos=1, retain=False)
    assert reconnecting.wait(PATIENCE_SECONDS)

    thread = client._thread
    transport.stop()

    assert not thread.is_alive()
