"""What a caller asks, as JSON: checked, copied and made canonical once, at the door."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, cast

# Top-level fields of chat requests that hold JSON schemas, and the fields inside
# them whose value is one: models read a schema's properties in order, so there
# the order of keys is content (S12).
SCHEMA_HOLDERS = frozenset(
    {"tools", "functions", "response_format", "text", "format", "config", "generationConfig"}
    | {"generation_config", "output_format", "output_config"}
)
SCHEMAS = frozenset(
    {"parameters", "input_schema", "inputSchema", "schema", "responseSchema", "response_schema"}
    | {"parametersJsonSchema", "responseJsonSchema"}
)

DEPTH = 200  #: how deeply a prompt or an answer may be nested
SIZE = 32 * 2**20  #: how long its JSON may be, in bytes
LEAVES = frozenset({str, int, float, bool, type(None)})

_MODEL_IN_PATH = re.compile(r"models/([^/:]+)")  # Gemini's

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Prompt:
    """A JSON value that cannot change any more: `asked` as written, `canonical` for comparing.

    *scope* names the model where the prompt itself says whom it asks, *origin* is what
    it came in (an HTTP request), for a model that takes it; *single* that one call of
    the model brings one sample, whatever `n`. *owned* is a value fresh from a JSON text,
    that nobody else has: it need not be checked or copied. Raises TypeError or
    ValueError where the value is no JSON.
    """

    __slots__ = ("_asked", "_key", "_value", "canonical", "origin", "scope", "single")

    def __init__(
        self, value: Any, *, scope: str | None = None, origin: Any = None, single: bool = False, owned: bool = False
    ) -> None:
        self.scope = scope
        self.origin = origin
        self.single = single
        self._key: tuple[str, bytes] | None = None
        try:
            self._value = value if owned else _copied(value, DEPTH)
            self.canonical = _text(_canonical(self._value, False, False, top=True))
        except (TypeError, ValueError) as error:
            raise _refusal("a prompt", error) from None
        self._asked = self.canonical if isinstance(value, str) else None

    @property
    def asked(self) -> str:
        """The prompt as it was written."""
        if self._asked is None:
            self._asked = _encode(self._value)
        return self._asked

    def fresh(self) -> Any:
        """A copy of the prompt, the model's own to change."""
        return self._value if isinstance(self._value, str) else json.loads(self.asked)

    def scope_under(self, scope: str) -> str:
        """What names the model, under a stage of this *scope*."""
        return scope if self.scope is None else self.scope

    def model(self, scope: str) -> str:
        """The name of the model that is asked: what the prompt says, else what its scope is."""
        value = self._value
        if isinstance(value, dict):
            named = cast("dict[str, Any]", value).get("model")
            if isinstance(named, str):
                return named
        scope = self.scope_under(scope)
        in_path = _MODEL_IN_PATH.search(scope) if self.scope is not None else None
        return scope if in_path is None else in_path[1]

    def key(self, scope: str) -> bytes:
        """SHA-256 over the canonical JSON of [scope, prompt]."""
        scope = scope if self.scope is None else self.scope
        if self._key is None or self._key[0] != scope:
            self._key = scope, sha256(f"[{_encode(scope)},{self.canonical}]".encode()).digest()
        return self._key[1]

    def come_in(self, origin: Any) -> Prompt:
        """The same prompt from another *origin*."""
        twin = Prompt.__new__(Prompt)  # copy() takes ten times as long
        twin._asked, twin._key, twin._value, twin.canonical = self._asked, self._key, self._value, self.canonical
        twin.scope, twin.single, twin.origin = self.scope, self.single, origin
        return twin


def as_prompt(value: Any) -> Prompt:
    """*value* if it is a Prompt, else one for it."""
    return value if isinstance(value, Prompt) else Prompt(value)


def encode(value: Any, what: str) -> str:
    """The JSON text of *value*; TypeError or ValueError, naming *what*, where it is no JSON."""
    try:
        return _text(_copied(value, DEPTH))
    except (TypeError, ValueError) as error:
        raise _refusal(what, error) from None


def decode(text: str) -> Any:
    """The value of a JSON text from a file, of whomever; ValueError where it is none, or goes beyond our limits."""
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _refusal(what: str, error: Exception) -> Exception:
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{what} must be JSON: {error}")


def _text(value: Any) -> str:
    text = _encode(value)
    size = len(text.encode())  # a lone surrogate is a string, but no Unicode text
    if size > SIZE:
        raise ValueError(f"it must be no longer than {SIZE // 2**20} MiB, and this one has {size} bytes")
    return text


def _copied(value: Any, depth: int) -> Any:
    """A copy, without what json.dumps would quietly turn into something else."""
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        for name in fields:
            if not isinstance(name, str):
                raise TypeError(f"the key {name!r} of an object is not a string")
        _dive(depth)
        return {name: item if type(item) in LEAVES else _copied(item, depth - 1) for name, item in fields.items()}
    if isinstance(value, (list, tuple)):
        _dive(depth)
        return [item if type(item) in LEAVES else _copied(item, depth - 1) for item in cast("list[Any]", value)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def _dive(depth: int) -> None:
    if depth == 0:
        raise ValueError(f"it is nested more than {DEPTH} levels deep, or contains itself")


def _canonical(value: Any, in_holder: bool, in_schema: bool, top: bool = False) -> Any:
    """The same value with sorted keys (but in schemas) and whole floats as integers."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {
            name: item
            if type(item := fields[name]) is str
            else _canonical(
                item, in_holder or (top and name in SCHEMA_HOLDERS), in_schema or (in_holder and name in SCHEMAS)
            )
            for name in (fields if in_schema else sorted(fields))
        }
    if isinstance(value, (list, tuple)):
        return [_canonical(item, in_holder, in_schema) for item in cast("list[Any]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
