"""A headless Chromium for tests of pages, spoken to over a pipe: no port is opened, and nothing but files is reached.

The few calls of the DevTools protocol that the tests need; everything the page asks for and complains of is kept.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome-headless-shell",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
WIDTH, HEIGHT = 1280, 900
ANSWER_S = 60.0

FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",  # the port of "discard", where nobody listens
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

DRAWN = """new Promise((resolve) => {
  const root = document.documentElement;
  const look = () => root.dataset.drawn !== undefined && resolve(Number(root.dataset.drawn));
  new MutationObserver(look).observe(root, { attributes: true });
  look();
})"""


class BrowserFailed(Exception):
    """The browser did not start, did not answer in time, or refused a call."""


def found_browser() -> str | None:
    """Path of a Chromium or Chrome: ``TAPELINE_BROWSER``, or one on PATH."""
    named = os.environ.get("TAPELINE_BROWSER")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """What a page did while it was open."""

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    has_loaded: bool = False

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, of a promise what it resolves to."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        done = self.call("Runtime.evaluate", **asked)
        if "exceptionDetails" in done:
            raise BrowserFailed(json.dumps(done["exceptionDetails"])[:600])
        return done["result"].get("value")

    def open(self, path: Path, theme: str = "light") -> int:
        """Load the file and wait until it has drawn its charts: how many it says there are."""
        self.set_theme(theme)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.browser.listen_until(lambda: self.has_loaded)
        return int(self.evaluate(DRAWN))

    def set_theme(self, theme: str) -> None:
        """`light` or `dark`, as the reader's system says."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def set_width(self, width: int, height: int = HEIGHT) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> Path:
        """The whole page, not only what a window shows of it."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Keep what the tests ask about."""
        if method == "Page.loadEventFired":
            self.has_loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


class Browser:
    """A running browser with a profile of its own; ``with Browser(path) as browser``."""

    def __init__(self, path: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="tapeline-browser-", ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The protocol's pipes are descriptors 3 and 4 of the browser: moved out of each other's way first.
        to_browser_high, from_browser_high = (_above(each, 10) for each in (to_browser, from_browser))

        def place() -> None:
            os.dup2(to_browser_high, 3)
            os.dup2(from_browser_high, 4)

        self._process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={WIDTH},{HEIGHT}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=place,
        )
        for each in (to_browser, from_browser, to_browser_high, from_browser_high):
            os.close(each)
        self._rest = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    @contextmanager
    def page(self) -> Iterator[Page]:
        """An empty page that is watched from before it loads anything."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.set_width(WIDTH)
        yield page
        self.call("Target.closeTarget", targetId=target)

    def call(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """The result of a call. Raises ``BrowserFailed``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        ends = time.monotonic() + ANSWER_S
        while True:
            said = self._next(ends, method)
            if said.get("id") == self._number:
                if "error" in said:
                    raise BrowserFailed(f"{method}: {said['error']}")
                result: dict[str, Any] = said["result"]
                return result
            self._tell(said)

    def listen_until(self, is_reached: Callable[[], bool]) -> None:
        """Take in what pages report until something is so. Raises ``BrowserFailed``."""
        ends = time.monotonic() + ANSWER_S
        while not is_reached():
            self._tell(self._next(ends, "an event"))

    def _tell(self, said: dict[str, Any]) -> None:
        page = self._pages.get(said.get("sessionId", ""))
        if page is not None and "method" in said:
            page.heard(said["method"], said["params"])

    def _next(self, ends: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise BrowserFailed(f"no answer to {waiting_for} in {ANSWER_S:.0f} s")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise BrowserFailed(f"the browser ended during {waiting_for}, exit code {self._process.poll()}")
            self._rest += more
        one, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(one)
        return found


def _above(descriptor: int, least: int) -> int:
    """A copy of the descriptor with a number of at least this."""
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, least)
