"""Runs the application in uvicorn, and tells where it listens once it does."""

import shlex
import socket

import uvicorn

from app.config import Settings
from app.errors import AttuneError
from app.logs import configure_logging
from app.main import create_app

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104


class Server(uvicorn.Server):
    """A server that says where to click as soon as it answers, and keeps the error that stopped its start."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell where."""
        await super().startup(sockets)
        if self.started and self.servers:
            port = self.servers[0].sockets[0].getsockname()[1]
            print(greeting(self._settings, port), flush=True)


def run(settings: Settings) -> None:
    """Serve until a signal; raises the error of ours that keeps the application from starting."""
    configure_logging(settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
    )
    try:
        Server(config, settings).run()
    except KeyboardInterrupt:
        return
    except SystemExit:
        if isinstance(app.state.start_error, AttuneError):
            raise app.state.start_error from None
        raise


def greeting(settings: Settings, port: int) -> str:
    """Where to look, and two commands to begin with."""
    host = "127.0.0.1" if settings.host in ANY_ADDRESS else settings.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    token = "-H 'Authorization: Bearer '\"$ATTUNE_AUTH__TOKEN\" " if settings.token else ""
    json = f"{token}-H 'Content-Type: application/json'"
    start = shlex.quote('{"user_id": "ada", "max_questions": 10}')
    return (
        f"attune answers at {address}; every route is at {address}/docs. To begin:\n"
        f"  curl -X PUT {address}/v1/users/ada {json} -d '{{}}'\n"
        f"  curl -X POST {address}/v1/questionnaires {json} -d {start}"
    )
