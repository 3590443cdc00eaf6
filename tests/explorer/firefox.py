"""Debian's Firefox over its own remote protocol, Marionette, which needs no driver program.

The protocol: https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html
"""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """A Firefox without a screen, in a profile of its own."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 720) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
        self._process = subprocess.Popen(
            [str(FIREFOX), "--headless", "--no-remote", "--marionette", "--profile", str(folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._socket, self._rest, self._number = self._connected(port), b"", 0
        self._read()
        self.send("WebDriver:NewSession", capabilities={})
        self.send("WebDriver:SetTimeouts", script=60_000, pageLoad=60_000)
        self.send("WebDriver:SetWindowRect", width=width, height=height + 85)

    def send(self, command: str, **parameters: Any) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(str(len(message)).encode() + b":" + message)
        _, _, error, result = self._read()
        if error:
            raise RuntimeError(error["message"])
        return result

    def open(self, address: str) -> None:
        self.send("WebDriver:Navigate", url=address)
        self.wait("return !!document.documentElement.dataset.drawn")

    def run(self, code: str, *arguments: Any) -> Any:
        return self.send("WebDriver:ExecuteScript", script=code, args=list(arguments))["value"]

    def wait(self, code: str) -> None:
        deadline = time.monotonic() + 30
        while not self.run(code):
            if time.monotonic() > deadline:
                raise TimeoutError(code)
            time.sleep(0.1)

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    def _connected(self, port: int) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port))
            except OSError:
                if time.monotonic() > deadline:
                    self._process.kill()
                    raise
                time.sleep(0.1)

    def _read(self) -> Any:
        while b":" not in self._rest:
            self._rest += self._socket.recv(1 << 16)
        length, _, self._rest = self._rest.partition(b":")
        while len(self._rest) < int(length):
            self._rest += self._socket.recv(1 << 20)
        message, self._rest = self._rest[: int(length)], self._rest[int(length) :]
        return json.loads(message)
