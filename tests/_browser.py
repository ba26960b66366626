"""A real browser, Chromium, driven by its DevTools protocol: it tells of every request and of every complaint."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FOUND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
PATIENCE = 30.0  #: seconds


class Page:
    """The only tab of a browser. `requests` has every URL that it wanted, `messages` all that its console has said."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._loaded = False
        for domain in ("Page", "Network", "Runtime", "Log", "Audits"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command, and wait for its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := self._next()).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    def open(self, file: Path) -> None:
        """Load *file* and all that it wants."""
        self.requests.clear()
        self.messages.clear()
        self._loaded = False
        self.send("Page.navigate", url=file.as_uri())
        while not self._loaded:
            self._next()
        self.value("new Promise(done => setTimeout(done, 100))")  # for what begins only then

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        """Have it as wide as a desktop's window or a phone."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self) -> bytes:
        """All of the page as PNG, also what lies below the window."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(PATIENCE))
        happened, details = message.get("method"), message.get("params", {})
        if happened == "Page.loadEventFired":
            self._loaded = True
        elif happened == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif happened == "Runtime.consoleAPICalled":
            self.messages.append(str([argument.get("value") for argument in details["args"]]))
        elif happened == "Runtime.exceptionThrown":
            self.messages.append(str(details["exceptionDetails"]))
        elif happened == "Log.entryAdded":
            self.messages.append(details["entry"]["text"])
        elif happened == "Audits.issueAdded":
            self.messages.append(str(details["issue"]))
        return message


@contextmanager
def browser() -> Iterator[Page]:
    """A browser that has nothing but an empty profile, and is gone afterwards."""
    assert FOUND is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # its last helpers may still write there
        command = [FOUND, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_address(Path(profile)), max_size=None, proxy=None) as whole:
                page = _target(whole)
                with connect(page, max_size=None, proxy=None) as socket:
                    yield Page(socket)
                whole.send(json.dumps({"id": 0, "method": "Browser.close"}))
                process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


def _address(profile: Path) -> str:
    """Where the browser listens, which it writes into its profile."""
    file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.02)
    raise TimeoutError("the browser did not start")


def _target(whole: ClientConnection) -> str:
    """The address of its tab."""
    whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    targets = json.loads(whole.recv(PATIENCE))["result"]["targetInfos"]
    (page,) = [target["targetId"] for target in targets if target["type"] == "page"]
    server = f"ws://{whole.remote_address[0]}:{whole.remote_address[1]}"
    return f"{server}/devtools/page/{page}"
