"""Starts ``attune serve`` as a process of its own on a free port, for commands that talk to the real API."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from app.errors import ConfigurationError

START_SECONDS = 60.0


@contextmanager
def local_service(**settings: str) -> Iterator[str]:
    """Run a service on the embedded default in a temporary directory and yield its base address.

    ``settings`` are additional ``ATTUNE_…`` variables. The service's log goes to a file that is shown
    if it does not come up.

    Raises:
        ConfigurationError: If the service is not ready within ``START_SECONDS``.
    """
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    with tempfile.TemporaryDirectory(prefix="attune-") as directory:
        log = Path(directory) / "service.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "app.cli", "serve", "--port", str(port)],
                cwd=directory,
                env=environment | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _wait(process, address, log)
                yield address
            finally:
                process.terminate()
                process.wait(timeout=30)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{address}/readyz", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    process.terminate()
    raise ConfigurationError(f"The service did not become ready; its log ends:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
