"""Where everything lies below the state directory, as relative POSIX names.

    state.json                       the durable state
    lock                             held by the running agent
    store/<manifest>/manifest.signed a complete bundle; written last, so its presence proves it
    store/<manifest>/files/<name>    the bundle's files
    downloads/<sha256>.index         a file's index while it is fetched
    downloads/<sha256>.part          a file while it is fetched, reserved to its full size
    outbox/<report>.json             reports that the host has not acknowledged
    run/                             sockets and results of runners
    log/agent.log, agent.1.log       what the agent said, where no journal keeps it

Names in a bundle are checked by the manifest, so none of these leaves the directory.
"""

STATE = "state.json"
LOCK = "lock"
STORE = "store"
DOWNLOADS = "downloads"
OUTBOX = "outbox"
RUN = "run"
LOG = "log"
EVERYTHING = (STATE, LOCK, STORE, DOWNLOADS, OUTBOX, RUN, LOG)
"""What an agent keeps for longer than it runs, and cannot go on with if it is another account's."""
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux (``sun_path`` holds 108 with the final zero)."""


def bundle(manifest: str) -> str:
    """Return the folder of a stored bundle."""
    return f"{STORE}/{manifest}"


def manifest_file(manifest: str) -> str:
    """Return where a stored bundle's signed manifest lies."""
    return f"{STORE}/{manifest}/manifest.signed"


def bundle_file(manifest: str, name: str) -> str:
    """Return where one file of a stored bundle lies."""
    return f"{STORE}/{manifest}/files/{name}"


def part(sha256: str) -> str:
    """Return where a file lies while it is fetched."""
    return f"{DOWNLOADS}/{sha256}.part"


def index(sha256: str) -> str:
    """Return where a file's index lies while the file is fetched."""
    return f"{DOWNLOADS}/{sha256}.index"


def report(report_id: str) -> str:
    """Return where a report waits for its acknowledgement."""
    return f"{OUTBOX}/{report_id}.json"


def runner_socket(manifest: str) -> str:
    """Return where the runner of one variant listens."""
    return f"{RUN}/{manifest[:12]}.sock"


def tap_socket(manifest: str) -> str:
    """Return where the runner of one variant hands out copies of requests."""
    return f"{RUN}/{manifest[:12]}.tap"


def model_socket(model: str) -> str:
    """Return the stable name under which applications reach whatever variant is active."""
    return f"{RUN}/{model}.sock"
