"""Whose the state directory is: what root does in a service's, it does as the service's account.

A file that root leaves there stops the service at its next start, and neither a model that is tried nor a link that
the account has put there has any business with root's rights.
"""

import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from edgepick_agent.core.service import device_groups
from edgepick_agent.errors import StorageError


def become_owner(folder: Path, board: str) -> None:
    """Be the account that a folder belongs to, for good, if root looks at somebody else's; otherwise do nothing.

    The groups are the account's and those that the service has for the devices of ``board``.

    Raises:
        StorageError: This root may not become somebody else.
    """
    if os.geteuid() != 0 or not folder.is_dir() or (owner := folder.stat()).st_uid == 0:
        return
    try:
        name, group = _account(owner.st_uid, owner.st_gid)
        os.setgroups(sorted({*os.getgrouplist(name, group), *_known(device_groups(board))}))
        os.setgid(group)
        os.setuid(owner.st_uid)
    except PermissionError as error:
        hint = f"sudo -u '#{owner.st_uid}' edgepick-agent ..."
        raise StorageError(f"{folder} belongs to another account, which root may not become here", hint=hint) from error


def _account(user: int, group: int) -> tuple[str, int]:
    try:
        found = pwd.getpwuid(user)
    except KeyError:  # in a container, of the machine around it
        return str(user), group
    return found.pw_name, found.pw_gid


def _known(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        with suppress(KeyError):
            yield grp.getgrnam(name).gr_gid
