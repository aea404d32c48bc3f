"""Well-formed inputs to begin from: the protocol's golden records."""

import json
from pathlib import Path

RECORDS = Path(__file__).parent.parent / "golden" / "records"


def recorded(*prefixes: str) -> list[bytes]:
    """Return the exact bytes of every golden record whose name begins with a prefix; all without one."""
    found = sorted(RECORDS.glob("*.json"))
    wanted = [path for path in found if not prefixes or path.name.startswith(prefixes)]
    return [json.loads(path.read_text(encoding="utf-8"))["bytes"].encode() for path in wanted]
