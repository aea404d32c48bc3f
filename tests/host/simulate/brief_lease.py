"""``edgepick``, but a dead host's lease ends after a second, so that a test need not wait for ten."""

import sys

from edgepick_host.cli.main import run
from edgepick_host.service import coordinator

coordinator.LEASE_SECONDS = 1.0

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
