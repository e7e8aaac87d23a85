"""The app in a browser: an HTTP server that gives out one page, and for each page that is opened a process of the app, read-only.

Called by `eos serve`. What the page and the app's process say to each other is textual-serve's; who may connect is decided here.
Runs are followed by the processes; this one reads no run folder.
"""

import asyncio
import ipaddress
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.server import Server

from runners.errors import EosError, ExitCode
from runners.run_folder import RunFolder

PAGE = Path(__file__).with_name("page")
"""The page: HTML, style and the few lines of script that textual-serve's own lacks."""
HEADERS = {
    # The page needs nothing from elsewhere, and a login node may have no way out; what xterm.js draws with is styled in place.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
END_SECONDS = 3.0
"""How long pages and their processes may take to end when the server does. Processes end by themselves once it has gone."""


class ServingError(EosError):
    """The server cannot be reached at the place that was asked for."""

    exit_code = ExitCode.USAGE


class Page(Server):
    """One page, and a process for each time that it is open."""

    def __init__(self, command: str, *, token: str | None, port: int) -> None:
        """Prepare.

        Args:
            command: A shell command that starts the app.
            token: What a browser has to show; where None, those are let in that ask for this machine by a name of its loopback.
            port: Tells apart the cookies of several servers on a host.
        """
        super().__init__(command)
        self._token = token
        self._cookie = f"eos-{port}"
        self._sessions: set[asyncio.Task[object]] = set()

    def application(self) -> web.Application:
        """The page, its files and its socket, behind the guard."""
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/", self.page),
                web.get("/ws", self._session),
                web.static("/page", PAGE),
                web.static("/static", self.statics_path),
            ]
        )
        application.on_response_prepare.append(_add_headers)
        application.on_shutdown.append(self._end_sessions)
        return application

    async def page(self, _: web.Request) -> web.FileResponse:
        """The page."""
        return web.FileResponse(PAGE / "index.html")

    async def _session(self, request: web.Request) -> web.WebSocketResponse:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            return await self.handle_websocket(request)
        finally:
            self._sessions.discard(task)

    async def _end_sessions(self, _: web.Application) -> None:
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=END_SECONDS)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let through who may look.

        A page of another site can open sockets to this machine, and by a name that leads here (DNS rebinding) even read the
        answers; so the name that was asked for is looked at, and the origin of whoever asks.
        """
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="This page is not for other sites.")
        if self._token is None:
            if not _is_loopback(urlsplit(f"//{request.host}").hostname or ""):
                raise web.HTTPForbidden(text="Ask for it as localhost; `eos serve --host` shows it to other machines.")
        elif not self._has_token(request.cookies.get(self._cookie)):
            if request.path != "/" or not self._has_token(request.query.get("token")):
                raise web.HTTPForbidden(text="The token is missing or wrong: open the address that `eos serve` printed, with ?token=...")
            found = web.HTTPFound("/")
            found.set_cookie(self._cookie, self._token, httponly=True, samesite="Lax")
            raise found
        return await handler(request)

    def _has_token(self, given: str | None) -> bool:
        return self._token is not None and given is not None and secrets.compare_digest(given.encode(), self._token.encode())


def serve(shown: RunFolder | Path, *, host: str, port: int, with_token: bool, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; the processes of open pages end with it.

    Args:
        shown: A run, or the folder of the runs to list.
        host: Where to listen. Elsewhere than on the loopback there is always a token.
        port: The port; 0 for any that is free.
        with_token: Ask for a token also on the loopback.
        say: Is told the address.

    Raises:
        ServingError: If there is no such host, or the port is taken or not ours to take.
    """
    listener = _listen(host, port)
    address, port = listener.getsockname()[:2]
    token = secrets.token_urlsafe(24) if with_token or not _is_loopback(address) else None
    name = socket.gethostname() if ipaddress.ip_address(address).is_unspecified else host
    say(f"Read-only at http://{f'[{name}]' if ':' in name else name}:{port}/{f'?token={token}' if token else ''}   Ctrl-C ends it.")
    page = Page(_command(shown), token=token, port=port)
    # textual-serve prints what a process that failed has written.
    with redirect_stdout(sys.stderr):
        web.run_app(page.application(), sock=listener, print=None, access_log=None, shutdown_timeout=END_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        problem = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ServingError(f"{host}:{port} cannot be listened on: {problem}. Choose another with --port (0: any free one).") from error


def _command(shown: RunFolder | Path) -> str:
    """What textual-serve hands to a shell; exec leaves no shell between the server and the process."""
    kind, path = ("run", shown.path) if isinstance(shown, RunFolder) else ("runs", shown)
    return f"exec {shlex.join([sys.executable, '-P', '-m', 'eos_tui.served', kind, str(path.absolute())])}"


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
