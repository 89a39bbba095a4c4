"""Chromium, driven over the pipe that it offers: nothing but the standard library is needed."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)


def find() -> str | None:
    """Return the browser: ``CHROMIUM`` of the environment, or the first of the usual names."""
    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else NAMES
    return next(filter(None, map(shutil.which, names)), None)


class Tab:
    """A page of a browser, and what came of it.

    Attributes:
        requests: Addresses that were asked for.
        said: What scripts wrote, what the browser refused, dialogs that opened.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], read: Callable[[], Any]) -> None:
        self._send, self._read, self._numbers = send, read, itertools.count(1)
        self._session: str | None = None
        self._loaded = False
        self.requests: list[str] = []
        self.said: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the answer of the browser to a command of its protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._send({**message, "sessionId": self._session} if self._session else message)
        while (answer := self._read()).get("id") != number:
            self._hear(answer)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def _hear(self, event: dict[str, Any]) -> None:
        name, parameters = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif name == "Page.loadEventFired":
            self._loaded = True
        elif name == "Page.javascriptDialogOpening":
            self.said.append(f"dialog: {parameters['message']}")
            dismiss = {
                "id": 0,
                "method": "Page.handleJavaScriptDialog",
                "params": {"accept": False},
            }
            self._send({**dismiss, "sessionId": self._session})
        elif name == "Runtime.consoleAPICalled":
            self.said.append(f"console: {parameters['args']}")
        elif name == "Runtime.exceptionThrown":
            self.said.append(f"exception: {parameters['exceptionDetails']}")
        elif name == "Log.entryAdded":
            self.said.append(f"log: {parameters['entry']['text']}")

    def open(self, address: str, width: int) -> None:
        """Open a page in a window so many pixels wide, and wait until it is loaded."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self._loaded, self.requests, self.said = False, [], []
        self.call("Page.navigate", url=address)
        while not self._loaded:
            self._hear(self._read())
        # What a payload began may take a moment.
        waiting = "new Promise(r => setTimeout(r, 300))"
        self.call("Runtime.evaluate", expression=waiting, awaitPromise=True)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write what the whole page looks like."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def started(program: str, profile: Path) -> Iterator[Tab]:
    """Start a browser with a profile of its own; end it afterwards."""
    from_us, to_us = os.pipe(), os.pipe()
    inherited = (from_us[0], to_us[1])
    # Chromium reads from 3 and writes to 4, each message ended by a zero.
    shell = f'exec "$@" 3<&{inherited[0]} 4>&{inherited[1]}'
    options = [*_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", program, *options],
        pass_fds=inherited,
        stderr=subprocess.DEVNULL,
    )
    for each in inherited:
        os.close(each)
    received = os.fdopen(to_us[0], "rb")

    def send(message: dict[str, Any]) -> None:
        os.write(from_us[1], json.dumps(message).encode() + b"\0")

    def read() -> Any:
        message = bytearray()
        while (byte := received.read(1)) != b"\0":
            assert byte, "the browser ended"
            message += byte
        return json.loads(message)

    try:
        yield Tab(send, read)
    finally:
        os.close(from_us[1])
        process.terminate()
        process.wait(60)
        received.close()
