"""Headless Chromium over a pipe: open a page, resize it, evaluate JavaScript, take a screenshot.

Uses the DevTools protocol on file descriptors 3 and 4 (`--remote-debugging-pipe`: JSON messages, each followed by a
zero byte), so the standard library is enough. Also serves a built site on loopback. Used by shots.py and by the test
that checks network requests.
"""

import base64
import contextlib
import fcntl
import functools
import http.server
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--disable-features=AutofillServerCommunication,NetworkTimeServiceQuerying"]
DEADLINE = 30.0                                    # seconds per answer


def find_chromium() -> str | None:
    """Return the first Chromium on the PATH, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Browser:
    """One Chromium process with one tab; use it in a `with` statement."""

    def __init__(self, netlog: Path | None = None):
        self.netlog, self.numbers, self.buffer = netlog, itertools.count(1), b""
        self.session = None

    def __enter__(self) -> "Browser":
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        command = [find_chromium(), *FLAGS, f"--user-data-dir={self.profile.name}", "--remote-debugging-pipe"]
        command += [f"--log-net-log={self.netlog}"] if self.netlog else []
        command += ["about:blank"]                 # instead of the distribution's home page
        # start the process, with its ends of the pipes as descriptors 3 and 4
        (commands, self.write_end), (self.read_end, answers) = os.pipe(), os.pipe()
        child_ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (commands, answers)]   # to keep 3 and 4 free
        self.process = subprocess.Popen(command, pass_fds=(3, 4), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        preexec_fn=lambda: (os.dup2(child_ends[0], 3), os.dup2(child_ends[1], 4)))
        for fd in (commands, answers, *child_ends):
            os.close(fd)
        # open the tab and attach to it
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(Exception):
            self.session = None
            self.call("Browser.close")             # a clean exit also completes the net log
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        os.close(self.read_end)
        os.close(self.write_end)
        self.profile.cleanup()

    def call(self, method: str, **params) -> dict:
        """Send one command and wait for its answer; skip the events in between."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while (answer := self._receive(method)).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def _receive(self, waiting_for: str) -> dict:
        end = time.monotonic() + DEADLINE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_end], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self.read_end, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError(f"Chromium did not answer {waiting_for}")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression[:60]}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page and wait until it is complete."""
        self.call("Page.navigate", url=url)
        self.wait_for(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def wait_for(self, expression: str) -> None:
        """Evaluate the expression until it is true."""
        end = time.monotonic() + DEADLINE
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise RuntimeError(f"still false after {DEADLINE:g} s: {expression}")
            time.sleep(0.02)

    def resize(self, width: int) -> None:
        """Set the width of the window in CSS pixels; below 600, emulate a phone."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self) -> bytes:
        """Return a PNG of the page at full height."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        return base64.b64decode(data)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder: Path):
    """Serve a folder on a free loopback port and yield the origin, http://127.0.0.1:PORT."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def site_pages(folder: Path) -> list[str]:
    """Return the paths of all pages of a built site, as shown in the address bar."""
    files = sorted(folder.rglob("*.html"))
    return [file.relative_to(folder).as_posix().removesuffix("index.html") for file in files]


def requests_in(netlog: Path) -> set[str]:
    """Return all addresses that pages on loopback requested or looked up, from the browser's net log.

    Lookups count because a preconnect hint makes no request but still contacts a third party. The browser's own
    requests (updates, the time) have different keys and are omitted.
    """
    log = json.loads(netlog.read_text(encoding="utf-8"))
    kinds = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    addresses = set()
    for event in log["events"]:
        kind, params = kinds.get(event["type"], ""), event.get("params", {})
        cause = [params.get(key, "") for key in ("initiator", "network_isolation_key", "network_anonymization_key")]
        if not any(text.startswith("http://127.0.0.1") for text in cause):
            continue
        if kind == "URL_REQUEST_START_JOB" and not params["url"].startswith(("data:", "blob:")):
            addresses.add(params["url"])
        elif kind.startswith("HOST_RESOLVER_MANAGER") and "host" in params:
            addresses.add(params["host"])
    return addresses
