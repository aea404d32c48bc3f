"""The JSON Schema of a profile, made from its dataclasses; and a validator of the subset that it uses.

Write the schema anew after a profile has changed, and raise ``PROFILE_SCHEMA`` unless fields were only added:

    python tests/agent/runner/profile_schema.py
"""

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgepick_agent.core.profile import PROFILE_SCHEMA, Profile

FILE = Path(__file__).parents[3] / "docs/profile.schema.json"
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
ACCEPTED = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
    "null": type(None),
}  # fmt: skip


def schema() -> dict[str, Any]:
    """Return the schema of :class:`Profile`, each record once under ``$defs``."""
    records: dict[str, Any] = {}
    top = described(Profile, records)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"edgepick-agent benchmark --json, version {PROFILE_SCHEMA}",
        **top,
        "$defs": dict(sorted(records.items())),
    }


def described(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; ``records`` gets the records in it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [described(k, records) if k is not type(None) else {"type": "null"} for k in inner]}
    if origin is tuple:
        return {"type": "array", "items": described(inner[0], records)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": described(inner[1], records)}
    if dataclasses.is_dataclass(kind):
        if kind.__name__ not in records:
            records[kind.__name__] = {}
            records[kind.__name__] = record(kind, records)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if issubclass(kind, Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    return {"type": SCALARS[kind]}


def record(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a dataclass; a profile always writes every field."""
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "properties": {name: described(hints[name], records) for name in names},
        "required": names,
    }


def problems(value: Any, rule: Mapping[str, Any], whole: Mapping[str, Any], path: str = "$") -> Iterator[str]:
    """Yield where ``value`` breaks ``rule``: type, enum, required, properties, items, anyOf and $ref."""
    if "$ref" in rule:
        yield from problems(value, whole["$defs"][rule["$ref"].rpartition("/")[2]], whole, path)
        return
    if "anyOf" in rule:
        tried = [list(problems(value, each, whole, path)) for each in rule["anyOf"]]
        yield from () if any(not t for t in tried) else tried[0]
        return
    wanted = rule["type"]
    if not isinstance(value, ACCEPTED[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
        yield f"{path}: {value!r} is no {wanted}"
        return
    if value not in rule.get("enum", [value]):
        yield f"{path}: {value!r} is not one of {rule['enum']}"
    for index, item in enumerate(value if wanted == "array" else ()):
        yield from problems(item, rule["items"], whole, f"{path}[{index}]")
    if wanted == "object":
        yield from object_problems(value, rule, whole, path)


def object_problems(value: Any, rule: Mapping[str, Any], whole: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield what is missing, unknown or wrong in an object."""
    yield from (f"{path}.{name}: missing" for name in rule.get("required", ()) if name not in value)
    for name, item in value.items():
        inner = rule.get("properties", {}).get(name) or rule.get("additionalProperties")
        if inner is None:
            yield f"{path}.{name}: not in the schema"
        else:
            yield from problems(item, inner, whole, f"{path}.{name}")


if __name__ == "__main__":
    FILE.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
