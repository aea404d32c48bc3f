"""A broker in pure Python, for machines without mosquitto: amqtt in the foreground until SIGTERM.

    python -m edgepick_host.demo.embedded_broker --port 1883

MQTT 3.1.1 only, anonymous, retained messages in memory. For demos and tests, not for a fleet.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from edgepick_host.errors import MissingExtraError, StateError

PIP_LINE = "pip install 'edgepick[demo]'"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return ``host``, ``port`` and ``verbose``."""
    parser = argparse.ArgumentParser(prog="python -m edgepick_host.demo.embedded_broker", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="TCP port to listen on")
    parser.add_argument("--verbose", action="store_true", help="show what amqtt logs")
    return parser.parse_args(argv)


async def serve(host: str, port: int) -> None:
    """Return after SIGTERM or SIGINT; until then the broker answers on ``host:port``.

    Raises:
        MissingExtraError: amqtt is not installed.
        StateError: It cannot listen there.
    """
    try:
        from amqtt.broker import Broker
        from amqtt.contexts import BrokerConfig, ListenerConfig
        from amqtt.errors import BrokerError
    except ImportError as error:
        raise MissingExtraError("the embedded broker needs amqtt", hint=PIP_LINE) from error
    config = BrokerConfig(
        listeners={"default": ListenerConfig(bind=f"{host}:{port}")},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )
    broker = Broker(config)
    try:
        await broker.start()
    except (BrokerError, OSError) as error:
        raise StateError(f"cannot listen on {host}:{port}: {error}", hint="choose another --port") from error
    await _told_to_stop()
    await broker.shutdown()


async def _told_to_stop() -> None:
    """Return after SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 after a signal, the error's own otherwise."""
    args = parse_arguments(argv)
    # amqtt logs stack traces of what is reported below, and of every client that vanishes.
    logging.basicConfig(level=logging.INFO if args.verbose else logging.CRITICAL)
    try:
        asyncio.run(serve(args.host, args.port))
    except (MissingExtraError, StateError) as error:
        sys.stderr.write(f"Error: {error}\n  {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
