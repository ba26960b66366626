"""What an SDK gets: an HTTP response made of samples, of a live stream, or of an error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from .._errors import CacheSaverError, CacheSaverWarning
from .._ticket import Draw
from ._dialect import Body
from ._exchange import Exchange, Refused
from ._family import pipe_stream
from ._samples import Answer, describe

HEADER = "x-cachesaver"
NO_RETRY = ("x-should-retry", "false")
# Not of this answer any more, or of the connection it came by.
_DROPPED = frozenset(
    {"transfer-encoding", "connection", "keep-alive", "set-cookie", "content-encoding", "content-length"}
)


def reply(exchange: Exchange) -> Any:
    """The response to *exchange*, once it is ready. Raises what the model raised, if that is no answer either."""
    if exchange.refusal is not None:
        raise exchange.refusal
    ticket = exchange.ticket
    for notice in ticket.notices:
        warnings.warn(notice, CacheSaverWarning, stacklevel=3)
    if exchange.pipe is not None:
        return _live(exchange)
    error = ticket.error
    if error is None:
        return _sampled(exchange, ticket.draws)
    if isinstance(error, Refused):
        headers = [(name, value) for name, value in error.headers if name.lower() not in _DROPPED]
        if error.final:
            headers = [pair for pair in headers if pair[0].lower() != "x-should-retry"] + [NO_RETRY]
        return exchange.family.Response(error.status, headers=headers, content=error.content, request=exchange.http)
    if isinstance(error, CacheSaverError):
        return refusal(exchange, error)
    raise error


def _sampled(exchange: Exchange, draws: Sequence[Draw]) -> Any:
    answer = Answer(exchange.question, draws)
    stream = exchange.question.stream
    kind = exchange.question.dialect.frames.media_type if stream else "application/json"
    content = answer.stream() if stream else answer.whole()
    told = {"content-type": kind, "content-length": str(len(content)), **answer.headers, HEADER: describe(draws)}
    headers = [(name.encode(), value.encode()) for name, value in told.items()]  # bytes are taken as they are
    # As with `content=content`, but for headers that are here already.
    body = exchange.family.ByteStream(content)
    response = exchange.family.Response(200, headers=headers, stream=body, request=exchange.http)
    response.read()
    exchange.taken()
    return response


def _live(exchange: Exchange) -> Any:
    claim: Any = exchange.ticket.claim
    positions = "" if claim is None else f"; position={','.join(map(str, claim.positions))}"
    kind = exchange.question.dialect.frames.media_type
    told = f"miss{positions}; bought={exchange.ticket.n}"
    headers = [("content-type", kind), *exchange.headers, (HEADER, told)]
    stream = pipe_stream(exchange.family)(exchange.pipe)
    return exchange.family.Response(200, headers=headers, stream=stream, request=exchange.http)


def refusal(exchange: Exchange, error: CacheSaverError) -> Any:
    """An error of ours as an answer that every SDK raises at once and none tries again: 424, "failed dependency"."""
    kind = type(error).__name__
    told: Body = {"message": str(error), "type": kind, "code": kind, "status": kind, "param": None}
    body = {"type": "error", "error": told, "message": str(error), "detail": str(error)}
    headers = dict([("content-type", "application/json"), NO_RETRY, (HEADER, kind)])
    return exchange.family.Response(424, headers=headers, content=json.dumps(body).encode(), request=exchange.http)
