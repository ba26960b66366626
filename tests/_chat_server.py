"""A chat completions server that counts: every choice it sells is unique, and every request is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any


@dataclass
class ChatServer:
    """What was asked of it, and the choices it sold."""

    base_url: str = ""
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    sold: int = 0
    failures: list[int] = field(default_factory=list)  #: statuses that the next requests get
    lock: Lock = field(default_factory=Lock)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.requests]

    @property
    def keys(self) -> list[str]:
        return [headers["authorization"].removeprefix("Bearer ") for headers, _ in self.requests]

    def answer(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.requests.append((headers, body))
            if self.failures:
                return self.failures.pop(0), {"error": {"message": "as scripted"}}
            numbers = range(self.sold, self.sold + body.get("n", 1))
            self.sold += len(numbers)
        time.sleep(0.01)  # so that requests made at once are in flight at once
        return 200, completion(body["model"], [f"answer {number}" for number in numbers])


def completion(model: str, texts: list[str]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 7 * len(texts), "total_tokens": 10 + 7 * len(texts)},
    }


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """The server, on a port of its own, as long as the block."""
    chat = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = chat.answer({name.lower(): value for name, value in self.headers.items()}, body)
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        chat.base_url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield chat
        finally:
            server.shutdown()
            thread.join()
