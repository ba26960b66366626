"""What an error says: whether its request was sent, refused or billed, and how long to leave its resource alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from ._headers import Headers, seconds, wait


class Fate(Enum):
    """What became of a request that failed."""

    NOT_SENT = "not sent"  #: no connection: it costs nothing to ask again
    REFUSED = "refused"  #: 429, 503, 529: too much is asked of the resource
    QUOTA_GONE = "its quota is used up"  #: and with it that of all who share it
    KEY_INVALID = "its key was refused"
    MAYBE_BILLED = "maybe billed"  #: it was sent, and nobody knows what the server did
    FAILED = "failed"  #: it is the request that is wrong, or the model


@dataclass(frozen=True, slots=True)
class Pushback:
    """What became of a request, and what the server said beside that."""

    fate: Fate
    status: int | None = None
    seconds: float | None = None  #: to be left alone, as the server says
    headers: Headers = field(default_factory=dict[str, str])

    @property
    def reason(self) -> str:
        """In words; nothing of the server's own, for that may hold the key."""
        return self.fate.value if self.status is None else f"{self.fate.value} (status {self.status})"


UNKNOWN = Pushback(Fate.FAILED)  #: nothing that has to do with a resource

_REFUSED = frozenset({429, 503, 529})
_MAYBE_BILLED = frozenset({408, 500, 502, 504})
# Codes and phrases of providers; each means that no later request will fare better.
_QUOTA_GONE = re.compile(
    r"insufficient_quota|billing_hard_limit|billing_not_active|credit balance is too low|insufficient[ _]balance", re.I
)
_KEY_INVALID = re.compile(r"invalid_api_key|api_key_invalid|api key not valid|account_deactivated", re.I)
# Google and OpenAI say it in the body, too.
_DELAY = re.compile(r"""(?:retryDelay['"]?\s*:\s*['"]|try again in )((?:\d+(?:\.\d+)?(?:ms|[smhd]))+)""")
# Classes of errors of httpx, httpx2, aiohttp and requests, which are not imported here, and of Python.
_NO_CONNECTION = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ConnectionRefusedError", "gaierror"}
    | {"ClientConnectorError", "NewConnectionError", "ConnectTimeoutError"}
)
_BROKEN = frozenset(
    {"ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "RemoteProtocolError", "TimeoutError"}
    | {"ServerDisconnectedError", "ServerTimeoutError", "ConnectionResetError"}
)
_WRAPPERS = frozenset({"APIConnectionError", "APITimeoutError"})  # of SDKs; what is in them tells more


def read(error: BaseException) -> Pushback:
    """What *error*, of a provider's SDK or of an HTTP client, says."""
    error = _alone(error)
    status = _status(error)
    if status is None:
        return Pushback(_of_connection(error))
    headers = _headers(error)
    text = _text(error)
    fate = _of_status(status, text)
    told = wait(headers)
    if told is None and (delay := _DELAY.search(text)):
        told = seconds(delay[1])
    return Pushback(fate, status, told, headers)


def _alone(error: BaseException) -> BaseException:
    """What is in a group of one, which a model with a task group raises."""
    while isinstance(error, BaseExceptionGroup):
        within = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(within) != 1:
            break
        error = within[0]
    return cast("BaseException", error)


def _of_status(status: int, text: str) -> Fate:
    if status == 402 or (status in (400, 403, 429) and _QUOTA_GONE.search(text)):
        return Fate.QUOTA_GONE
    if status == 401 or (status in (400, 403) and _KEY_INVALID.search(text)):
        return Fate.KEY_INVALID
    if status in _REFUSED:
        return Fate.REFUSED
    return Fate.MAYBE_BILLED if status in _MAYBE_BILLED else Fate.FAILED


def _of_connection(error: BaseException) -> Fate:
    for each in _chain(error):
        kinds = {kind.__name__ for kind in type(each).__mro__}
        if kinds & _NO_CONNECTION:
            return Fate.NOT_SENT
        if kinds & _BROKEN:
            return Fate.MAYBE_BILLED
    return Fate.MAYBE_BILLED if type(error).__name__ in _WRAPPERS else Fate.FAILED


def _chain(error: BaseException) -> Iterator[BaseException]:
    """*error* and what it was raised from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _status(error: BaseException) -> int | None:
    holders: tuple[Any, ...] = (error, getattr(error, "response", None))
    for holder in holders:
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return int(value)
    return None


def _headers(error: Any) -> Headers:
    for holder in (getattr(error, "response", None), error, getattr(error, "raw_response", None)):
        headers = getattr(holder, "headers", None)
        if headers is not None:
            return lowered(headers)
    return {}


def lowered(headers: Any) -> Headers:
    """*headers*, a mapping or pairs, by their names in lower case."""
    pairs = cast("Mapping[Any, Any]", headers).items() if hasattr(headers, "items") else headers
    return {str(name).lower(): str(value) for name, value in pairs}


def _text(error: Any) -> str:
    parts = [getattr(error, name, "") for name in ("body", "content", "details")]
    return " ".join(part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in [*parts, error])
