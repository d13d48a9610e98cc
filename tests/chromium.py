"""A browser without a screen, by its DevTools protocol: pages, what they ask for and say."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --allow-file-access-from-files --remote-debugging-port=0 "
    "--remote-allow-origins=*"
).split()


def found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `asked` are the addresses that it asked for, `errors` what its console said in red."""

    def __init__(self, socket: websocket.WebSocket):
        self.socket, self.count = socket, 0
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.loaded = False
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _heard(self, message: dict) -> None:
        about = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(about["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(about["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning"):
                self.errors.append(json.dumps(about["args"])[:500])
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                self.errors.append(json.dumps(about["entry"])[:500])
            case "Page.loadEventFired":
                self.loaded = True

    def call(self, method: str, **words: Any) -> dict:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": words}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                assert "error" not in message, message
                return message["result"]
            self._heard(message)

    def open(self, address: str) -> None:
        self.loaded = False
        self.call("Page.navigate", url=address)
        while not self.loaded:
            self._heard(json.loads(self.socket.recv()))

    def value(self, script: str) -> Any:
        """What a script comes to, its promise kept."""
        words = {"expression": script, "awaitPromise": True, "returnByValue": True}
        result = self.call("Runtime.evaluate", **words)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def look(self, width: int, height: int, dark: bool) -> None:
        """The window's size, in pixels of a phone below 600, and the colours that its user prefers."""
        words = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **words)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            words = {"text": text} if text and kind == "keyDown" else {}
            code = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "Tab": 9}[key]
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **words)

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def started(browser: str, scratch: Path) -> Iterator[Page]:
    """A page of a browser that knows nothing of its user and ends with the block."""
    profile = scratch / "profile"
    words = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with open(os.devnull, "wb") as nothing:
        process = subprocess.Popen(
            words,
            stdout=nothing,
            stderr=nothing,
            env=os.environ | {"HOME": str(scratch)},
            start_new_session=True,
        )
    try:
        port = profile / "DevToolsActivePort"
        for _ in range(300):
            if port.is_file() and "\n" in port.read_text(encoding="utf-8"):
                break
            assert process.poll() is None, "the browser did not start"
            time.sleep(0.1)
        number = port.read_text(encoding="utf-8").split()[0]
        listed = websocket.create_connection(
            f"ws://127.0.0.1:{number}{port.read_text(encoding='utf-8').split()[1]}", timeout=30
        )
        listed.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        while "result" not in (message := json.loads(listed.recv())):
            pass
        target = next(t for t in message["result"]["targetInfos"] if t["type"] == "page")["targetId"]
        socket = websocket.create_connection(f"ws://127.0.0.1:{number}/devtools/page/{target}", timeout=30)
        try:
            yield Page(socket)
        finally:
            socket.close()
            listed.close()
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, end)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
