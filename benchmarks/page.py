"""``make bench-page``: how long each view of the page takes with 10,000 devices, in a real Chromium.

A view's time runs from its address being entered until its heading and its last table stand on the screen: request,
database, answer, and drawing. The service runs in this process on SQLite; figures are of ``--rounds`` visits.
"""

import argparse
import json
import platform
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.web.api import make_api
from edgepick_host.web.server import Address, serving
from host.web.conftest import site_of
from host.web.small_fleet import ROLLOUT, VIEWER, fill

TARGET_SECONDS = 1.0
VIEWS = {
    "fleet": "#/",
    "devices": "#/devices",
    "devices, searched": "#/devices?search=0999&online=true",
    "device": "#/devices/pi-00001",
    "rollouts": "#/rollouts",
    "rollout": f"#/rollouts/{ROLLOUT}",
    "rollout's devices": f"#/rollouts/{ROLLOUT}/devices?status=offered",
    "decisions": "#/decisions",
    "model": "#/models/digits",
    "audit": "#/audit",
}


def visit(page: Page, url: str, address: str) -> float:
    """Return the seconds until a view stands, begun from an empty page."""
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(f"{url}{address}")
    page.locator("main h1").wait_for()
    page.locator("main table").last.wait_for()
    return time.perf_counter() - began


def measured(page: Page, url: str, rounds: int) -> dict[str, float]:
    """Return the median seconds of each view."""
    page.goto(url)
    page.get_by_label("Token").fill(VIEWER)
    page.keyboard.press("Enter")
    page.locator("main table").last.wait_for()
    return {
        name: statistics.median(visit(page, url, address) for _ in range(rounds)) for name, address in VIEWS.items()
    }


def main() -> None:
    """Fill a database, visit every view, print the table."""
    parser = argparse.ArgumentParser(description="Benchmark of the page.")
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("error: needs Chromium (Debian: chromium)")
    with tempfile.TemporaryDirectory(prefix="edgepick-bench-") as folder, sync_playwright() as playwright:
        store = SqlStore(f"sqlite:///{Path(folder) / 'host.db'}")
        print(f"filling a database with {options.devices} devices", file=sys.stderr, flush=True)
        fill(store, options.devices)
        with serving(make_api(site_of(store)), Address(host="127.0.0.1", port=0)) as listening:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            found = measured(browser.new_page(), listening.url, options.rounds)
            browser.close()
        store.close()
    if options.json:
        print(json.dumps({"devices": options.devices, "seconds": found}))
        return
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    print(
        f"{cpu.group(1) if cpu else platform.machine()}, {options.devices} devices, median of {options.rounds} visits"
    )
    for name, seconds in found.items():
        print(f"  {name:<18} {seconds:6.3f} s   {'yes' if seconds < TARGET_SECONDS else 'NO'}")
    print(f"{sum(s < TARGET_SECONDS for s in found.values())} of {len(found)} views under {TARGET_SECONDS:g} s")


if __name__ == "__main__":
    main()
