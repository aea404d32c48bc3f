"""TLS towards the broker: what is trusted, what this host shows, and a failed handshake in words."""

import ssl

from edgepick_host.core.settings import BrokerSettings
from edgepick_host.core.tls_words import TlsTrouble, alert_trouble, certificate_trouble
from edgepick_host.errors import ConfigError


def client_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Return what a connection to the broker trusts and shows.

    Raises:
        ConfigError: A file of certificates is missing or wrong.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        load_certificate(context, settings)
    except OSError as error:
        files = [f for f in (settings.ca_file, settings.cert_file, settings.key_file) if f]
        raise ConfigError(
            f"broker certificates ({', '.join(files)}): {error}",
            hint="Name PEM files in ca_file, cert_file and key_file of [broker].",
        ) from error
    context.sslsocket_class = _ClosingSocket
    return context


def load_certificate(context: ssl.SSLContext, settings: BrokerSettings) -> None:
    """Take the host's own certificate as it lies on disk now, if it has one."""
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)


class _ClosingSocket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails; paho forgets it open."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl.SSLSocket
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def handshake_trouble(error: ssl.SSLError) -> TlsTrouble:
    """Return why no trusted connection came about, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_trouble(error.verify_code, error.verify_message)
    text = error.reason or str(error)
    hint = "Is TLS (mqtts://) right for this port?"
    return alert_trouble(text) or TlsTrouble(f"TLS failed ({text.replace('_', ' ').lower()})", hint)
