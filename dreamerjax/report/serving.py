"""The report as a web page that follows its run: one address, read-only, made anew when the run has changed."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import RunDirectory

REFRESH = 5  # seconds after which a browser asks again
SHOWN = ("metrics.jsonl", "summary.json", "config.yaml", "meta.json", "evaluation_*.json", "media/*")  # what a page is made of
HEADERS = {
    "Refresh": str(REFRESH),
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class LivePage:
    """A page about a run, drawn when it is asked for and the run has changed since."""

    def __init__(self, directory: RunDirectory, draw: Callable[[], str]) -> None:
        self.directory, self._draw = directory, draw
        self._lock = threading.Lock()  # one drawing at a time
        self._tag, self._content = "", b""

    def current(self) -> tuple[str, bytes]:
        """What names this state of the run, and the page. Raises UserError once the run is gone."""
        with self._lock:
            tag = self._state()
            if tag != self._tag:
                self._tag, self._content = tag, self._draw().encode()
            return self._tag, self._content

    def _state(self) -> str:
        if not self.directory.path.is_dir():
            raise UserError(f"{self.directory.path} is not there any more")
        stamps: list[Any] = [self.directory.in_training()]
        for path in sorted(path for pattern in SHOWN for path in self.directory.path.glob(pattern)):
            with suppress(OSError):  # it was removed in between
                stamps.append((path.name, path.stat().st_mtime_ns, path.stat().st_size))
        return f'"{sha256(repr(stamps).encode()).hexdigest()[:16]}"'


class Server(ThreadingHTTPServer):
    """Serves one page at `/`. Raises OSError where it cannot listen."""

    allow_reuse_port = False

    def __init__(self, host: str, port: int, page: LivePage) -> None:
        self.page, self.names = page, {"localhost", host.lower(), socket.gethostname().lower()}
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__((str(address[0]), port), _Handler)

    @property
    def host(self) -> str:
        """The address on which it listens, in numbers."""
        return str(self.server_address[0])

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 30  # seconds for a request to arrive

    def do_GET(self) -> None:
        if not self._meant():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "this server does not have that name")
        elif self.path.partition("?")[0] != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._answer()

    do_HEAD = do_GET

    def _answer(self) -> None:
        try:
            tag, content = self.server.page.current()
        except (OSError, UserError) as error:  # such as a run that was moved away
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=str(error))
            return
        known = self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
        for name, value in {**HEADERS, "ETag": tag}.items():
            self.send_header(name, value)
        if not known:
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET" and not known:
            self.wfile.write(content)

    def _meant(self) -> bool:
        """Whether the browser asked for this machine, not for a name that somebody made lead here (DNS rebinding)."""
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            return False
        with suppress(ValueError):
            return bool(ip_address(name))
        return name in self.server.names

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""


def serve(page: LivePage, host: str, port: int) -> None:
    """Serve a page until Ctrl-C, and print its address; port 0 is a free one, a loopback host for this machine alone.

    Raises UserError: it cannot listen there, for instance since another program does; exit code 1.
    """
    try:
        server = Server(host, port, page)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot serve at host={host} port={port}: {reason}; port=0 takes a free one", exit_code=1) from error
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes what runs in its background deaf to it
    with server, suppress(KeyboardInterrupt):
        say(f"{server.url} follows {page.directory.path}; Ctrl-C ends it")
        if not ip_address(server.host).is_loopback:
            say("note: whoever reaches this machine over the network can read it")
        server.serve_forever()
