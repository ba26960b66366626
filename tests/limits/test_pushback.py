"""What providers say when they will not answer: read from the errors that their SDKs raise."""

from __future__ import annotations

import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google.genai import errors as genai_errors

from cachesaver._http._exchange import Refused
from cachesaver._limits._headers import limits, seconds, wait
from cachesaver._limits._left import Limit
from cachesaver._limits._pushback import Fate, lowered, read

URL = "https://api.example.com/v1/chat/completions"


def response(family: Any, status: int, headers: dict[str, str], body: Any) -> Any:
    return family.Response(status, headers=headers, json=body, request=family.Request("POST", URL))


def of_openai(status: int, headers: dict[str, str], body: Any) -> Exception:
    return openai.APIStatusError("m", response=response(httpx2, status, headers, body), body=body)


def of_anthropic(status: int, headers: dict[str, str], body: Any) -> Exception:
    return anthropic.APIStatusError("m", response=response(httpx2, status, headers, body), body=body)


def of_gemini(status: int, headers: dict[str, str], body: Any) -> Exception:
    return genai_errors.ClientError(status, body, response(httpx, status, headers, body))


def of_httpx(status: int, headers: dict[str, str], body: Any) -> Exception:
    got = response(httpx, status, headers, body)
    return httpx.HTTPStatusError(f"m {body}", request=got.request, response=got)


def of_ours(status: int, headers: dict[str, str], body: Any) -> Exception:
    return Refused(status, list(headers.items()), repr(body).encode())


MAKERS = [of_openai, of_anthropic, of_gemini, of_httpx, of_ours]

RESPONSES = [
    # status, headers, body, fate, seconds
    (429, {"retry-after": "20"}, {}, Fate.REFUSED, 20),
    (429, {"Retry-After": "0"}, {}, Fate.REFUSED, 0),
    (429, {"retry-after": "1.5"}, {}, Fate.REFUSED, 1.5),
    (429, {"retry-after": "2", "retry-after-ms": "1250"}, {}, Fate.REFUSED, 1.25),
    (429, {"retry-after": "soon"}, {}, Fate.REFUSED, None),
    (429, {"retry-after": "-3"}, {}, Fate.REFUSED, None),
    (429, {"retry-after": "nan"}, {}, Fate.REFUSED, None),
    (429, {}, {}, Fate.REFUSED, None),
    (503, {"retry-after": "7"}, {}, Fate.REFUSED, 7),
    (503, {}, {"error": {"message": "The model is overloaded."}}, Fate.REFUSED, None),
    (529, {}, {"type": "error", "error": {"type": "overloaded_error"}}, Fate.REFUSED, None),
    (429, {"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, {}, Fate.REFUSED, 360),
    (
        429,
        {
            "x-ratelimit-remaining-requests": "5",
            "x-ratelimit-reset-requests": "9s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "120ms",
        },
        {},
        Fate.REFUSED,
        0.12,
    ),
    (429, {"x-ratelimit-reset-requests": "3s", "x-ratelimit-reset-tokens": "1m1.5s"}, {}, Fate.REFUSED, 3),
    (429, {"x-ratelimit-reset": "12"}, {}, Fate.REFUSED, 12),
    (429, {"retry-after": "4", "x-ratelimit-reset-requests": "1h"}, {}, Fate.REFUSED, 4),
    (429, {}, {"error": {"code": "insufficient_quota", "message": "You exceeded"}}, Fate.QUOTA_GONE, None),
    (429, {}, {"error": {"code": "rate_limit_exceeded", "message": "exceeded your quota"}}, Fate.REFUSED, None),
    (429, {}, {"error": {"code": "billing_hard_limit_reached"}}, Fate.QUOTA_GONE, None),
    (429, {}, {"error": {"message": "Limit 3, Used 3. Please try again in 1h2m3.5s."}}, Fate.REFUSED, 3723.5),
    (400, {}, {"error": {"message": "Your credit balance is too low to access"}}, Fate.QUOTA_GONE, None),
    (402, {}, {"error": {"message": "Insufficient Balance"}}, Fate.QUOTA_GONE, None),
    (402, {}, {}, Fate.QUOTA_GONE, None),
    (401, {}, {"error": {"code": "invalid_api_key"}}, Fate.KEY_INVALID, None),
    (401, {}, {}, Fate.KEY_INVALID, None),
    (400, {}, {"error": {"status": "INVALID_ARGUMENT", "message": "API key not valid."}}, Fate.KEY_INVALID, None),
    (403, {}, {"error": {"message": "account_deactivated"}}, Fate.KEY_INVALID, None),
    (403, {}, {"error": {"message": "this model is not for you"}}, Fate.FAILED, None),
    (400, {}, {"error": {"message": "max_tokens is too large"}}, Fate.FAILED, None),
    (404, {}, {}, Fate.FAILED, None),
    (413, {}, {}, Fate.FAILED, None),
    (422, {}, {}, Fate.FAILED, None),
    (408, {}, {}, Fate.MAYBE_BILLED, None),
    (500, {"retry-after": "2"}, {}, Fate.MAYBE_BILLED, 2),
    (502, {}, {}, Fate.MAYBE_BILLED, None),
    (504, {}, {}, Fate.MAYBE_BILLED, None),
    (
        429,
        {},
        {"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"@type": "RetryInfo", "retryDelay": "37s"}]}},
        Fate.REFUSED,
        37,
    ),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("status", "headers", "body", "fate", "told"), RESPONSES)
def test_responses(make: Any, status: int, headers: dict[str, str], body: Any, fate: Fate, told: float | None) -> None:
    """L5: the same from every SDK."""
    pushback = read(make(status, headers, body))
    assert (pushback.fate, pushback.status) == (fate, status)
    assert pushback.seconds == (None if told is None else pytest.approx(told))


def raised(error: Exception, cause: BaseException | None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


REQUEST = httpx.Request("POST", URL)
CONNECTIONS = [
    (httpx.ConnectError("m"), Fate.NOT_SENT),
    (httpx.ConnectTimeout("m"), Fate.NOT_SENT),
    (httpx.PoolTimeout("m"), Fate.NOT_SENT),
    (httpx2.ConnectError("m"), Fate.NOT_SENT),
    (ConnectionRefusedError(), Fate.NOT_SENT),
    (httpx.ReadTimeout("m"), Fate.MAYBE_BILLED),
    (httpx.WriteError("m"), Fate.MAYBE_BILLED),
    (httpx.RemoteProtocolError("m"), Fate.MAYBE_BILLED),
    (httpx2.ReadError("m"), Fate.MAYBE_BILLED),
    (TimeoutError(), Fate.MAYBE_BILLED),
    (raised(openai.APIConnectionError(request=REQUEST), httpx.ConnectError("m")), Fate.NOT_SENT),
    (raised(openai.APITimeoutError(request=REQUEST), httpx.ConnectTimeout("m")), Fate.NOT_SENT),
    (raised(anthropic.APITimeoutError(request=REQUEST), httpx.ReadTimeout("m")), Fate.MAYBE_BILLED),
    (raised(openai.APIConnectionError(request=REQUEST), httpx.ReadError("m")), Fate.MAYBE_BILLED),
    (openai.APIConnectionError(request=REQUEST), Fate.MAYBE_BILLED),
    # What was raised while another error was handled: the newer one counts.
    (raised(httpx.ReadTimeout("m"), httpx.ConnectError("m")), Fate.MAYBE_BILLED),
    (ValueError("m"), Fate.FAILED),
    (KeyError(429), Fate.FAILED),
    (SimpleNamespace, Fate.FAILED),
]


@pytest.mark.parametrize(("error", "fate"), CONNECTIONS)
def test_connections(error: Any, fate: Fate) -> None:
    """L5, F4: nothing sent is free; what was sent may be billed; all else is the request's own."""
    assert read(error if isinstance(error, Exception) else TypeError()).fate is fate


def test_dates() -> None:
    """L5: HTTP dates, RFC 3339 and seconds since 1970, all from now on."""
    soon = time.time() + 30
    rfc3339 = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon))
    for text in (formatdate(soon, usegmt=True), rfc3339, f"{soon:.0f}", f"{soon * 1000:.0f}"):
        assert seconds(text) == pytest.approx(30, abs=3)
    assert seconds(formatdate(time.time() - 30, usegmt=True)) == 0
    assert seconds("next week") is None


LIMITS = [
    (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        Limit(59, 1),
        Limit(149984, 360),
    ),
    ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-remaining-tokens": "9"}, Limit(7, 60), Limit(9, 60)),
    ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "5"}, Limit(3, 5), None),
    (
        {"x-ratelimit-remaining-req-minute": "11", "x-ratelimit-remaining-tokens-minute": "5"},
        Limit(11, 60),
        Limit(5, 60),
    ),
    ({"content-type": "application/json"}, None, None),
    ({"x-ratelimit-remaining-requests": "many"}, None, None),
]


@pytest.mark.parametrize(("headers", "requests", "tokens"), LIMITS)
def test_limits(headers: dict[str, str], requests: Limit | None, tokens: Limit | None) -> None:
    """L4: what OpenAI, Azure, Mistral and others announce."""
    assert limits(lowered(headers)) == (requests, tokens)


def test_limits_of_anthropic() -> None:
    """L4: its resets are dates."""
    reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30))
    names = ("requests", "input-tokens")
    told = {f"anthropic-ratelimit-{name}-remaining": "5" for name in names}
    told |= {f"anthropic-ratelimit-{name}-reset": reset for name in names}
    requests, tokens = limits(told)
    assert requests is not None
    assert tokens is not None
    assert (requests.remaining, tokens.remaining) == (5, 5)
    assert requests.reset == pytest.approx(30, abs=3)
    assert wait(told) == pytest.approx(30, abs=3)


def test_a_reason_holds_nothing_of_the_server(  # it may hold the key
) -> None:
    """D4: a reason is in our words."""
    error = of_openai(401, {}, {"error": {"code": "invalid_api_key", "message": "Incorrect API key: sk-secret"}})
    assert read(error).reason == "its key was refused (status 401)"
