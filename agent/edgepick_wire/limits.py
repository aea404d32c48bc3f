"""The bounds of the protocol, each with its unit and its reason."""

MAX_PAYLOAD_BYTES = 128 * 1024
"""Largest MQTT payload; the hard limit of the strictest hosted broker (AWS IoT Core: 128 KB)."""

CHUNK_BYTES = 64 * 1024
"""Default chunk size; goodput through a broker peaks here, and it fits every broker's default."""

MIN_CHUNK_BYTES = 512
"""Smallest chunk size, for gateways in front of microcontrollers."""

MAX_CHUNK_BYTES = 120 * 1024
"""Largest chunk size: a payload less room for headers."""

MAX_FILE_BYTES = 2 * 1024**3
"""Largest file in a bundle; FlatBuffers end at 2 GiB too."""

MAX_DEPTH = 12
"""Deepest nesting of a JSON message."""

MAX_ITEMS = 4096
"""Most entries in one list or object of a message."""

MAX_OWN_ITEMS = 1_000_000
"""Most entries in one list or object of a document that the host keeps for itself: a fleet's devices."""

MAX_TEXT_CHARACTERS = 8192
"""Longest string in a message."""

MAX_INTEGER = 2**63 - 1
"""Largest whole number in a message, and its negative the smallest: what a 64-bit integer of any language holds."""

MAX_TOPIC_LEVELS = 7
"""AWS IoT Core allows seven slashes; we stay one below."""
