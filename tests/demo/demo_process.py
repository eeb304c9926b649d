"""The demo in a process of its own, started as ``make demo`` starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from servers import free_port

APP = Path(__file__).parents[2] / "examples" / "demo" / "app.py"


class DemoProcess:
    """A process of the demo on a port of its own, which it keeps when it is restarted."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SESSION_")}
        self.environment = inherited | {"PORT": str(self.port)} | settings
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, APP], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, "the demo ended before it served anything"
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the demo did not start")

    def stop(self) -> str:
        """Stop it as Ctrl-C does and return what it printed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            output, _ = self.process.communicate(timeout=10)
        finally:
            self.process.kill()
        assert self.process.returncode == 0
        self.process = None
        return output

    def restart(self) -> None:
        self.stop()
        self.start()
