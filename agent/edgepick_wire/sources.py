"""Where else a file's bytes may lie: URL templates that a manifest or a device names beside MQTT."""

from edgepick_wire.errors import MalformedError

MAX_SOURCES = 4
MAX_SOURCE_CHARACTERS = 1024
SHA256_FIELD = "{sha256}"
NAME_FIELD = "{name}"


def check_source(template: str, scheme: str = "https") -> str:
    """Return ``template`` if it is an URL of ``scheme`` that names a file by digest or name.

    Raises:
        MalformedError: It is not; the text says why.
    """
    rest = template.replace(SHA256_FIELD, "").replace(NAME_FIELD, "")
    host = template.removeprefix(f"{scheme}://").partition("/")[0]
    if len(template) > MAX_SOURCE_CHARACTERS:
        problem = f"longer than {MAX_SOURCE_CHARACTERS} characters"
    elif not template.startswith(f"{scheme}://") or not host or set(host) & set("@{}?#"):
        problem = f"not {scheme}://HOST/..., without a user"
    elif rest == template or set(rest) & set("{}#"):
        problem = f"it names the file by {SHA256_FIELD} or {NAME_FIELD}, and nothing else in braces"
    elif not all("!" <= c <= "~" for c in template):
        problem = "only printable ASCII, no spaces"
    else:
        return template
    raise MalformedError(f"source {template[:80]!r}: {problem}")


def source_url(template: str, *, sha256: str, name: str) -> str:
    """Return the URL of one file; both values are safe in an URL by the protocol's alphabets."""
    return template.replace(SHA256_FIELD, sha256).replace(NAME_FIELD, name)
