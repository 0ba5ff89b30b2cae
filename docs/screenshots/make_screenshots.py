"""Takes the pictures of the Prefect UI that the documentation shows.

It starts a Prefect server of its own, runs the first example against it, opens what the run left
in a headless Chromium, and writes PNGs. Nothing outside this machine is contacted. On Debian::

    apt-get install chromium chromium-driver
    uv run --with selenium docs/screenshots/make_screenshots.py
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.remote.webdriver import WebDriver

DOCS = Path(__file__).parents[1]
WIDTH = 1200
START_SECONDS = 90
PAGE_SECONDS = 30
# Web fonts and the last animation of a page.
SETTLE_SECONDS = 1.5


@dataclass(frozen=True)
class Shot:
    """One picture: an artifact's page, or the run's page where there is no artifact.

    Attributes:
        name: Name of the PNG.
        artifact_key: The artifact to open, or None for the flow run.
        awaited: Text that stands on the page once it is complete.
        height: Height in pixels that shows all of it.
    """

    name: str
    artifact_key: str | None
    awaited: str
    height: int


SHOTS = (
    Shot("ui-run-artifacts", None, "hydrogen-values-plot", 900),
    Shot("ui-summary-sampler", "ghz-summary", "Software", 1270),
    Shot("ui-summary-estimator", "hydrogen-summary", "Software", 1390),
    Shot("ui-counts-table", "ghz-counts", "standard error", 560),
    Shot("ui-values-table", "hydrogen-values", "standard error", 760),
)


def main() -> None:
    """Run the example and write the pictures."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--example", type=Path, default=DOCS / "examples" / "hydrogen.py")
    arguments.add_argument("--output", type=Path, default=DOCS / "images")
    arguments.add_argument("--chromium", default=shutil.which("chromium"))
    arguments.add_argument("--chromedriver", default=shutil.which("chromedriver"))
    chosen = arguments.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        prefect_server(Path(home)) as (server, environment),
        chromium(chosen.chromium, chosen.chromedriver) as browser,
    ):
        subprocess.run([sys.executable, chosen.example], env=environment, check=True)  # noqa: S603
        for shot in SHOTS:
            png = take(browser, server, shot)
            path = chosen.output / f"{shot.name}.png"
            path.write_bytes(png)
            sys.stdout.write(f"{path.name}: {len(png) / 1000:.0f} kB\n")


@contextmanager
def prefect_server(home: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a Prefect server; give its address and the environment of its clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{server}/api",
        "PREFECT_SERVER_UI_API_URL": f"{server}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_for_server(server, process)
        yield server, environment
    finally:
        process.terminate()
        process.wait()


def wait_for_server(server: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{server}/api/health", timeout=2):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError(f"the Prefect server at {server} did not answer within {START_SECONDS} s")


@contextmanager
def chromium(binary: str, driver: str) -> Iterator[WebDriver]:
    """Run a headless Chromium that finds no host but this one."""
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def take(browser: WebDriver, server: str, shot: Shot) -> bytes:
    """Open a page, wait until it is complete, and return it as a PNG of few colours."""
    # The window is set by its outer size; the device metrics are those of the page itself.
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": WIDTH, "height": shot.height, "deviceScaleFactor": 1, "mobile": False},
    )
    artifact = newest_artifact(server, shot.artifact_key)
    if shot.artifact_key is None:
        browser.get(f"{server}/runs/flow-run/{artifact['flow_run_id']}")
        wait_for_text(browser, "Artifacts")
        tab = "//button[normalize-space()='Artifacts'] | //li[normalize-space()='Artifacts']"
        browser.find_element(By.XPATH, tab).click()
    else:
        browser.get(f"{server}/artifacts/artifact/{artifact['id']}")
    wait_for_text(browser, shot.awaited)
    time.sleep(SETTLE_SECONDS)
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    png = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(png, format="png", optimize=True)
    return png.getvalue()


def newest_artifact(server: str, key: str | None) -> dict[str, str]:
    """Return the newest artifact with a key, or of all."""
    query: dict[str, object] = {"sort": "CREATED_DESC", "limit": 1}
    if key is not None:
        query["artifacts"] = {"key": {"any_": [key]}}
    request = urllib.request.Request(  # noqa: S310 - the address of our own server
        f"{server}/api/artifacts/filter",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found = json.load(answer)
    if not found:
        raise LookupError(f"the example left no artifact {key or 'at all'}")
    return found[0]


def wait_for_text(browser: WebDriver, text: str) -> None:
    """Wait until a text stands on the page."""
    WebDriverWait(browser, PAGE_SECONDS).until(
        lambda page: text in page.find_element(By.TAG_NAME, "body").text,
        f"{text!r} does not appear at {browser.current_url}",
    )


if __name__ == "__main__":
    main()
