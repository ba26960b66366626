"""What is sent for an exchange: its own HTTP request, asking for the samples that are to be bought."""

from __future__ import annotations

import json
from typing import Any

from ._dialect import Body
from ._exchange import Exchange

_NOT_SENT_ON = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
    | {"x-cachesaver-namespace", "x-cachesaver-request-id"}
)
_CREDENTIALS = {"authorization": "Bearer {}", "api-key": "{}", "x-api-key": "{}", "x-goog-api-key": "{}"}
_NO_STREAM_OPTIONS = frozenset({"api.mistral.ai"})  # it refuses fields that it does not know


def outgoing(exchange: Exchange, n: int, key: Any) -> Body:
    """What to send for *n* samples, with *key* in place of the request's own."""
    http = exchange.http
    headers = [(name, value) for name, value in http.headers.multi_items() if name.lower() not in _NOT_SENT_ON]
    if key is not None:
        headers = [(name, _credential(name, value, key)) for name, value in headers]
    return {
        "method": http.method,
        "url": str(http.url),  # for a client of either family
        "headers": headers,
        "content": _content(exchange, n),
        "extensions": {name: value for name, value in http.extensions.items() if name == "timeout"},
    }


def _credential(name: str, value: str, key: Any) -> str:
    form = _CREDENTIALS.get(name.lower())
    return value if form is None else form.format(key)


def _content(exchange: Exchange, n: int) -> bytes:
    question = exchange.question
    body = question.body
    if question.answers == 1 and question.n != n:
        body = question.dialect.with_n(body, n)
    if adds_usage(exchange):
        body = {**body, "stream_options": {**_stream_options(body), "include_usage": True}}
    return exchange.http.content if body is question.body else json.dumps(body, ensure_ascii=False).encode()


def adds_usage(exchange: Exchange) -> bool:
    """Whether the stream is to tell its usage though the caller did not ask: a sample has it."""
    question = exchange.question
    if not (question.stream and question.dialect.usage_on_request) or exchange.http.url.host in _NO_STREAM_OPTIONS:
        return False
    return not _stream_options(question.body).get("include_usage")


def _stream_options(body: Body) -> Body:
    return body.get("stream_options") or {}
