"""A private key behind a command, for an HSM or a KMS: ``exec:hsm-sign --slot 2``.

The protocol, in two calls:

- ``COMMAND … --public`` prints the Ed25519 public key, 64 hexadecimal digits.
- ``COMMAND … --sign`` reads the message from standard input to its end and prints the Ed25519
  signature of exactly these bytes (pure, RFC 8032), 128 hexadecimal digits.

White space around the answer is ignored. Any exit code but 0 is a failure; the last line of standard
error is passed on. A signature that the public key does not verify is never used.
"""

import shlex
import subprocess

from edgepick_host.core.keypair import verify_signature
from edgepick_host.errors import ConfigError, SignerError

TIMEOUT_SECONDS = 60.0
"""A person may have to touch a token or to type a PIN."""

DETAIL_CHARACTERS = 200


class CommandSigner:
    """Keeps :class:`edgepick_host.ports.Signer` with a command; the public key is asked for once."""

    def __init__(self, command: list[str], *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._command = command
        self._timeout_seconds = timeout_seconds
        self._public = self._ask("--public", b"", 32)

    @property
    def public_key(self) -> str:
        """Ed25519 public key, 32 bytes in hexadecimal."""
        return self._public.hex()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of ``message``.

        Raises:
            SignerError: The command failed, took too long, or signed with another key.
        """
        signature = self._ask("--sign", message, 64)
        if not verify_signature(self._public, signature, message):
            raise SignerError(
                f"signer {self._name}: its signature does not fit its public key {self.public_key[:16]}…",
                hint="--public and --sign must use the same key; sign the bytes themselves, not a hash of them.",
            )
        return signature

    @property
    def _name(self) -> str:
        return f"exec:{self._command[0]}"

    def _ask(self, flag: str, message: bytes, size: int) -> bytes:
        try:
            done = subprocess.run(
                [*self._command, flag], input=message, capture_output=True, timeout=self._timeout_seconds, check=False
            )
        except OSError as error:
            raise ConfigError(
                f"signer {self._name}: {(error.strerror or 'cannot be started').lower()}",
                hint="Give the command's full path after exec:, or mend PATH.",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise SignerError(
                f"signer {self._name} {flag}: no answer within {self._timeout_seconds:g} s",
                hint="Does it wait for a PIN or a touch? It gets no terminal: standard input is the message.",
            ) from error
        if done.returncode != 0:
            said = _last_line(done.stderr)
            raise SignerError(f"signer {self._name} {flag}: ended with {done.returncode}{f': {said}' if said else ''}")
        return self._decoded(done.stdout, flag, size)

    def _decoded(self, output: bytes, flag: str, size: int) -> bytes:
        try:
            answer = bytes.fromhex(output.decode("ascii").strip())
        except ValueError:
            answer = b""
        if len(answer) != size:
            raise SignerError(
                f"signer {self._name} {flag}: expected {2 * size} hexadecimal digits, found {len(output)} other bytes",
                hint="docs/keys.md describes what the command must print.",
            )
        return answer


def open_signer(place: str) -> CommandSigner:
    """Return the signer behind the command line ``place``, split as a shell would; no shell is used.

    Raises:
        ConfigError: Not a command line, or no such command.
        SignerError: The command failed, or printed something else than a public key.
    """
    try:
        command = shlex.split(place)
    except ValueError as error:
        raise ConfigError(f"signer exec:{place[:80]}: {str(error).lower()}") from error
    if not command:
        raise ConfigError("signer exec: names no command")
    return CommandSigner(command)


def _last_line(text: bytes) -> str:
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    shown = lines[-1].strip()[:DETAIL_CHARACTERS] if lines else ""
    return "".join(c if c.isprintable() else "?" for c in shown)
