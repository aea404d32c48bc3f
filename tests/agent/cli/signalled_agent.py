"""``python signalled_agent.py CONFIG``: an agent that gets SIGTERM in another thread, once it reads a line.

The main thread sleeps on then, as it does when the signal comes just before it falls asleep; nothing
else happens that would wake it.
"""

import signal
import sys
import threading

from edgepick_agent import app
from edgepick_agent.cli.serve import serve
from edgepick_agent.loop import agent_loop


def signal_itself() -> None:
    """Wait for a line, and raise SIGTERM here."""
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


if __name__ == "__main__":
    agent_loop.IDLE_SECONDS = 3600.0
    app.available_runtimes = lambda _settings: ()
    threading.Thread(target=signal_itself, daemon=True).start()
    sys.exit(serve(sys.argv[1]))
