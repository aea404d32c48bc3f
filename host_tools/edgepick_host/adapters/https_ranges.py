"""One range of a file by HTTPS; certificates are verified against the system's, or against SSL_CERT_FILE."""

import urllib.error
import urllib.request

from edgepick_host.errors import UnreachableError, VerificationError

TIMEOUT_SECONDS = 20.0
PARTIAL_CONTENT = 206
HINT = "Upload the files first, mend --source, or leave the check out with --no-check-sources."


def read_range(url: str, offset: int, size: int) -> bytes:
    """Return ``size`` bytes from ``offset`` on.

    Raises:
        UnreachableError: Nobody answers, or with an error.
        VerificationError: The server does not serve ranges.
    """
    headers = {"Range": f"bytes={offset}-{offset + size - 1}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the template was checked to be https
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
            if response.status != PARTIAL_CONTENT:
                raise VerificationError(f"{url}: it does not serve ranges (status {response.status})", hint=HINT)
            data: bytes = response.read(size)
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"{url}: status {error.code}", hint=HINT) from error
    except OSError as error:
        raise UnreachableError(f"{url}: {getattr(error, 'reason', error)}", hint=HINT) from error
    return data
