"""/metrics, /livez and /readyz over HTTP, on a thread of its own. What alive and ready mean is the callers'.

    /livez    200 while the process is worth keeping, else 503: restart it
    /readyz   200 once it has restored and reads, else 503 with what it does instead: do not count on it yet
    /metrics  what `render` gives

Nobody is asked who they are: listen on 127.0.0.1, or where only your own people come.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Final, Self

_log = logging.getLogger(__name__)
CALLERS: Final = 64
"""Most connections at the same time, each of which takes a thread and a file descriptor of the worker."""
_REQUEST_SECONDS: Final = 10.0
_ROOM_SECONDS: Final = 1.0
_PLAIN: Final = "text/plain; charset=utf-8"


class CannotListen(OSError):
    """The address cannot be had; the message names the setting to change."""


class Health:
    """Answers from the moment it is made until `close`. Use it as a context manager."""

    def __init__(
        self,
        render: Callable[[], bytes],
        is_alive: Callable[[], bool],
        is_ready: Callable[[], bool],
        *,
        doing: Callable[[], str] = lambda: "",
        host: str = "127.0.0.1",
        port: int = 9464,
        content_type: str = "text/plain; version=0.0.4; charset=utf-8",
    ) -> None:
        """The callables are called on other threads. Port 0 takes any free one, see `port`. Raises CannotListen.

        `doing` is what keeps it from being ready.
        """
        answers = {
            "/metrics": lambda: (HTTPStatus.OK, content_type, render()),
            "/livez": lambda: _yes_or_no(is_alive(), "alive"),
            "/readyz": lambda: _yes_or_no(is_ready(), "ready", doing()),
        }
        self._server = _listen(host, port, answers)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health")
        self._thread.daemon = True
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What stands before the paths, by the address that it listens on."""
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def close(self) -> None:
        """Stop listening; may be called again."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_Answer = tuple[HTTPStatus, str, bytes]
_Answers = dict[str, Callable[[], _Answer]]


def _yes_or_no(yes: bool, word: str, why_not: str = "") -> _Answer:
    if yes:
        return HTTPStatus.OK, _PLAIN, f"{word}\n".encode()
    return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"not {word}{': ' if why_not else ''}{why_not}\n".encode()


def _listen(host: str, port: int, answers: _Answers) -> ThreadingHTTPServer:
    callers: dict[Any, None] = {}
    """Sockets of those who are there, oldest first."""
    room = Condition()

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        request_queue_size = 128  # of five, the sixth at once comes again a second later: a probe has given up

        def server_bind(self) -> None:
            """Without the host's name, which HTTPServer looks up and nobody here reads: that may wait for DNS."""
            TCPServer.server_bind(self)

        def process_request(self, request: Any, client_address: Any) -> None:
            """Where all places are taken, whoever has been there longest goes: a question takes milliseconds."""
            with room:
                if len(callers) >= CALLERS:
                    with suppress(OSError):
                        next(iter(callers)).shutdown(socket.SHUT_RDWR)  # so its thread ends
                    room.wait_for(lambda: len(callers) < CALLERS, _ROOM_SECONDS)
                callers[request] = None
            super().process_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            with room:
                callers.pop(request, None)
                room.notify()

        def handle_error(self, _request: object, client_address: object) -> None:
            """Somebody hung up in the middle of an answer: no matter."""
            _log.debug("request from %s broke off", client_address, exc_info=True)

    try:
        return Server((host, port), _handler(answers))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CannotListen(
            f"cannot listen on {host} port {port}: {why}. HEADRACE_METRICS_PORT takes another port, 0 any free one; "
            "HEADRACE_METRICS_HOST the address"
        ) from error


def _handler(answers: _Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS  # a caller that says nothing does not hold its thread for ever

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            status, content_type, body = _answer_to(self.path.partition("?")[0], answers)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def version_string(self) -> str:
            return "headrace"

        def log_message(self, format: str, *args: object) -> None:
            """A scrape every few seconds is no news."""

    return Handler


def _answer_to(path: str, answers: _Answers) -> _Answer:
    if path not in answers:
        return _not_found(answers)
    try:
        return answers[path]()
    except Exception:
        _log.exception("no answer to %s", path)
        return HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, b"failed; the log says why\n"


def _not_found(answers: _Answers) -> _Answer:
    return HTTPStatus.NOT_FOUND, _PLAIN, f"there is {', '.join(answers)} here\n".encode()
