"""Which HTTP requests ask a model for answers, and what of them is the prompt."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

from .._prompt import Prompt
from ._choices import ChatCompletions, Completions
from ._cohere import CohereChat, CohereLegacyChat
from ._dialect import Body, Dialect
from ._gemini import Gemini
from ._messages import Messages
from ._ollama import OllamaChat, OllamaGenerate
from ._responses import Responses
from ._whole import Whole

_WHOLE = Whole()
_ENDPOINTS: tuple[tuple[re.Pattern[str], Dialect], ...] = tuple(
    (re.compile(pattern), dialect)
    for pattern, dialect in (
        (r"/chat/completions$", ChatCompletions()),
        (r"/completions$", Completions()),
        (r"/responses$", Responses()),
        (r"^(?!.*/threads/).*/messages$", Messages()),
        (r":generateContent$|:streamGenerateContent\?(.*&)?alt=sse\b", Gemini()),
        (r"/v2/chat$", CohereChat()),
        (r"/v1/chat$", CohereLegacyChat()),
        (r"/api/chat$", OllamaChat()),
        (r"/api/generate$", OllamaGenerate()),
        (r"/embeddings$|/v[12]/embed$|/api/embed$|:(batchEmbedContents|embedContent)$|/hf-inference/models/", _WHOLE),
    )
)

# One service under two names; the first is the one in the cache.
_ALIASES = {"api-inference.together.ai": "api.together.xyz", "api.together.ai": "api.together.xyz"}
VERSIONS = ("anthropic-version", "anthropic-beta", "openai-beta")  # the only headers that change an answer
_NO_QUERY = ("key", "alt", "$alt")
_NOISE = frozenset(
    {"stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier"}
    | {"prompt_cache_key", "prompt_cache_retention", "keep_alive"}
)
_STATE = frozenset(
    {"previous_response_id", "conversation", "conversation_id", "background", "container", "cachedContent"}
)
_STATE_WITHIN = ("file_id", "file_ids", "vector_store_ids", "fileUri", "file_uri")
_MAY_REFER = re.compile(f'"({"|".join(_STATE_WITHIN)})"'.encode())  # cheap to look for in a whole body
# Answers to a number of these are chosen together, or repeatable: several of one are not one of several.
_TOGETHER = ("seed", "best_of", "use_beam_search")
# Hosts that refuse or ignore `n`.
_ONE_A_CALL = frozenset({"api.groq.com", "openrouter.ai"})


@dataclass(frozen=True, slots=True)
class Question:
    """What one HTTP request asks: *prompt* and *n* of it, of the model that *scope* names."""

    dialect: Dialect
    scope: str
    body: Body  #: as it was sent
    prompt: Prompt  #: without what does not change the answer
    n: int
    answers: int  #: how many answers make one sample: 1, or all that were asked for
    stream: bool


def question(host: str, path: str, versions: tuple[str | None, ...], content: bytes) -> Question | None:
    """What a POST of *content* asks; None where it is not a generation or depends on the server's state.

    *path* has its query, *versions* are the values of the headers `VERSIONS`. Raises
    nothing: what cannot be read is for the server to refuse.
    """
    ask = _remembered if len(content) <= _SHORT else _question
    return ask(host, path, versions, content)


def _question(host: str, path: str, versions: tuple[str | None, ...], content: bytes) -> Question | None:
    endpoint = _endpoint(host, path, versions)
    if endpoint is None:
        return None
    dialect, scope = endpoint
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or _stateful(cast("Body", value), content):
        return None
    body = cast("Body", value)
    if dialect is _WHOLE and body.get("stream"):  # Hugging Face's text generation: events that no dialect knows
        return None
    prompt = prompt_within(body)
    n, answers = _take_n(prompt, dialect)
    try:
        owned = Prompt(prompt, scope=scope, single=host in _ONE_A_CALL, owned=True)
        owned.key(scope)  # which every request for it needs
    except (ValueError, RecursionError):  # NaN, or nested without end
        return None
    return Question(dialect, scope, body, owned, n, answers, dialect.streams(body, path))


_SHORT = 16 * 1024  #: bytes of the bodies that are remembered
_remembered = lru_cache(256)(_question)  # many samples of one prompt are many equal requests


@lru_cache(256)
def _endpoint(host: str, path: str, versions: tuple[str | None, ...]) -> tuple[Dialect, str] | None:
    bare, _, query = path.partition("?")
    for pattern, dialect in _ENDPOINTS:
        if pattern.search(bare) or pattern.search(path):
            return dialect, scope_of(host, bare, query, versions)
    return None


def scope_of(host: str, path: str, query: str = "", versions: tuple[str | None, ...] = ()) -> str:
    """What names the model in a cache: host and path, and what else selects it; no credentials.

    >>> scope_of("api.groq.com", "/openai/v1/chat/completions")
    'api.groq.com/v1/chat/completions'
    """
    path = path.replace("/openai/v1/", "/v1/", 1).replace(":streamGenerateContent", ":generateContent")
    selectors = [pair for pair in parse_qsl(query) if pair[0] not in _NO_QUERY]
    selectors += [(name, value) for name, value in zip(VERSIONS, versions, strict=False) if value]
    return f"{_ALIASES.get(host, host)}{path}" + (f"?{urlencode(sorted(selectors))}" if selectors else "")


def prompt_within(body: Body) -> Body:
    """*body* without what does not change the answer, and without nulls."""
    prompt = {name: value for name, value in body.items() if value is not None and name not in _NOISE}
    messages = prompt.get("messages")
    if isinstance(messages, list):
        prompt["messages"] = [_without_nulls(message) for message in cast("list[Any]", messages)]
    return prompt


def _without_nulls(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    return {name: value for name, value in cast("Body", message).items() if value is not None}


def _take_n(prompt: Body, dialect: Dialect) -> tuple[int, int]:
    """How many samples are wanted, taken out of the prompt; and how many answers are in each."""
    if dialect.n_field is None:
        return 1, 1
    holder, _, field = dialect.n_field.rpartition(".")
    inner: Any = prompt.get(holder) if holder else prompt
    options = dict(cast("Body", inner)) if isinstance(inner, dict) else {}
    n = options.get(field, 1)
    together = any(options.get(name) is not None for name in _TOGETHER)
    prompts = _prompts(prompt)
    if type(n) is not int or n < 1:
        return 1, 1  # for the server to refuse
    if (n > 1 and together) or prompts > 1:
        return 1, n * prompts
    if options.pop(field, None) is not None:
        if holder:
            prompt[holder] = options
        else:
            del prompt[field]
    return n, 1


def _prompts(prompt: Body) -> int:
    """How many prompts a request for text completions holds."""
    texts = prompt.get("prompt")
    if not isinstance(texts, list):
        return 1
    listed = cast("list[Any]", texts)
    return 1 if not listed or isinstance(listed[0], int) else len(listed)


def _stateful(body: Body, content: bytes) -> bool:
    if any(body[name] for name in _STATE & body.keys()):
        return True
    if "input" in body and (body.get("store") is True or isinstance(body.get("prompt"), dict)):
        return True  # OpenAI's responses: what is stored there is to be referred to
    return _MAY_REFER.search(content) is not None and _refers(body)


def _refers(value: Any) -> bool:
    """Whether *value* names a file on the server anywhere; a schema may have fields of these names too."""
    if isinstance(value, dict):
        items = cast("Body", value).items()
        return any((name in _STATE_WITHIN and isinstance(v, (str, list))) or _refers(v) for name, v in items)
    return isinstance(value, list) and any(_refers(item) for item in cast("list[Any]", value))
