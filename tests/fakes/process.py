"""A real ``attune serve`` or ``attune engine`` in a process of its own, that a test may kill; scripted unless told."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx2

START_SECONDS = 60.0
WITHOUT_TORCH = (
    "import sys\n"
    "for name in ('torch', 'transformers', 'tokenizers'): sys.modules[name] = None\n"
    "from app.cli import main\n"
    "main()"
)
"""Runs the command line where none of an engine's libraries can be imported."""


class ServedProcess:
    """Start with ``start``; ``directory`` is its working directory, which keeps its data between starts."""

    subcommand = "serve"
    without_torch = False

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
        self._environment = {**kept, "ATTUNE_ENGINE__BACKEND": "scripted", "OMP_NUM_THREADS": "1", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        return (self.directory / "log.txt").read_text()

    def launch(self) -> "subprocess.Popen[bytes]":
        """Start, and do not wait until it answers."""
        main = ["-c", WITHOUT_TORCH] if self.without_torch else ["-m", "app.cli"]
        command = [sys.executable, *main, self.subcommand, "--port", str(self.port)]
        with (self.directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        return self._process

    def start(self) -> None:
        process = self.launch()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx2.get(f"{self.address}/readyz", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the service did not become ready:\n{self.log[-4000:]}")

    def terminate(self) -> "subprocess.Popen[bytes]":
        """Ask it to end, and do not wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process

    def kill(self) -> None:
        """Without a chance to finish anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator would."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None


class EngineProcess(ServedProcess):
    """``attune engine``."""

    subcommand = "engine"


class ThinProcess(ServedProcess):
    """``attune serve`` where no engine could run."""

    without_torch = True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
