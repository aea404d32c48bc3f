"""A wall clock of a process that a test sets while the process runs.

libfaketime would be the usual means, but where it leaves the monotonic clock alone it breaks sleeping until a moment of
that clock, as Python does (0.9.10). This is the part of it that is wanted: seconds since 1970, and nothing else.
"""

import shutil
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc")

SHIFTED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void)
{
    char text[32] = "0";
    const char *path = getenv("SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        ssize_t length = read(file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        close(file);
    }
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += shift();
    return failed;
}

time_t time(time_t *kept)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept)
        *kept = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
"""


class SetClock:
    """Shifts the wall clock of whoever is started in :attr:`environment`; what counts seconds goes on as ever."""

    def __init__(self, folder: Path) -> None:
        self._file, self._library = folder / "shift", folder / "shift.so"
        source = folder / "shift.c"
        source.write_text(SHIFTED)
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", self._library, source], check=True)
        self.shift(0)

    def shift(self, seconds: float) -> None:
        """Have the clock show that many seconds more than there are."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{seconds:.0f}\n")
        temporary.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "SHIFT_FILE": str(self._file)}
