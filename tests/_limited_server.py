"""A chat server with hidden limits, over real HTTP: each API key has its own, and its own record."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from .limits._provider import Bucket

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17},
}


@dataclass
class Account:
    """What one key has asked: when it was let in, and when not."""

    bucket: Bucket
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


@dataclass
class LimitedServer:
    """Lets in what *limit* makes of it for each key, and answers after *seconds*."""

    limit: Callable[[], Bucket]
    seconds: Callable[[], float]
    url: str = ""
    announces: bool = False
    _accounts: dict[str, Account] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def account(self, key: str) -> Account:
        """What *key* has asked, if anything."""
        with self.lock:
            return self._account(key)

    def arrived(self, key: str) -> tuple[float | None, dict[str, str]]:
        """In how many seconds *key* may ask again, or None; and what is announced."""
        with self.lock:
            account = self._account(key)
            now = time.monotonic()
            wait = account.bucket.take(now)
            (account.accepted if wait is None else account.refused).append(now)
            return wait, account.bucket.headers("requests") if self.announces else {}

    def _account(self, key: str) -> Account:
        if key not in self._accounts:
            self._accounts[key] = Account(self.limit())
        return self._accounts[key]


@contextmanager
def limited_server(
    limit: Callable[[], Bucket], seconds: Callable[[], float], *, announces: bool = False
) -> Iterator[LimitedServer]:
    """A running one."""
    server = LimitedServer(limit, seconds, announces=announces)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            wait, headers = server.arrived(self.headers["authorization"])
            if wait is None:
                time.sleep(server.seconds())
                self.answer(200, COMPLETION, headers)
            else:
                told = {**headers, "retry-after": str(math.ceil(wait)), "retry-after-ms": f"{wait * 1000:.0f}"}
                self.answer(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, told)

        def answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
            content = json.dumps(body).encode()
            with suppress(ConnectionError):  # a client that was cancelled
                self.send_response(status)
                for name, value in {**headers, "content-type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 1000

        def handle_error(self, *_: Any) -> None:
            pass

    http = Server(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
