"""Chat completions and text completions, as OpenAI writes them and many others do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

from ..models._completions import join, split
from ._dialect import Assembly, Body, Cuts, Dialect, ErrorEvent, Pieces, frame, parse
from ._frames import Frame

_DONE = "[DONE]"
_SET = frozenset({"role", "id", "type", "name", "index"})  # strings that come whole, and with some servers repeatedly


class Completions(Dialect):
    """Text completions: the text is a field of the choice itself."""

    n_field = "n"
    made = ("choices",)
    usage_on_request = True
    whole, chunk = "text_completion", "text_completion"

    def is_answer(self, body: Any) -> bool:
        return super().is_answer(body) and bool(body["choices"])

    def assembly(self, n: int) -> Assembly:
        return ChoicesAssembly(n, self)

    def split(self, body: Body) -> list[Body]:
        return split(body)

    def join(self, bodies: Sequence[Body], billed: Sequence[bool]) -> Body:
        return join(bodies, billed)

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        head = {name: value for name, value in bodies[-1].items() if name not in ("choices", "usage")}
        head["object"] = self.chunk
        for index, (body, own) in enumerate(zip(bodies, cuts, strict=True)):
            choice = body["choices"][0]
            for delta in self.deltas(choice, own):
                yield frame({**head, "choices": [{"index": index, "finish_reason": None, "logprobs": None, **delta}]})
            end = {"index": index, **self.last_delta, "finish_reason": choice.get("finish_reason"), "logprobs": None}
            yield frame({**head, "choices": [end]})
        options: Body = asked.get("stream_options") or {}
        if options.get("include_usage"):
            yield frame({**head, "choices": [], "usage": self.join(bodies, [False] * len(bodies)).get("usage")})
        yield Frame(_DONE)

    last_delta: ClassVar[Body] = {"text": ""}

    def deltas(self, choice: Body, cuts: Cuts | None) -> Iterator[Body]:
        """What each event adds to the choice, but for its end."""
        for number, (_, piece) in enumerate(Pieces({"text": choice.get("text") or ""}, cuts)):
            yield {"text": piece, **({"logprobs": choice.get("logprobs")} if not number else {})}

    def piece(self, choice: Body) -> Body:
        """What an event adds to the message."""
        return {"text": choice.get("text") or ""}

    def finished(self, message: Body) -> Body:
        """The fields that a whole choice has for *message*."""
        return message


class ChatCompletions(Completions):
    """Chat completions: what a choice says is in its message, and comes in deltas."""

    whole, chunk = "chat.completion", "chat.completion.chunk"
    last_delta: ClassVar[Body] = {"delta": {}}

    def deltas(self, choice: Body, cuts: Cuts | None) -> Iterator[Body]:
        message: Body = choice.get("message") or {}
        calls: list[Body] = message.get("tool_calls") or []
        texts = {name: value for name, value in message.items() if isinstance(value, str) and name != "role"}
        came = [name for name, _ in cuts or ()]
        cut = [i for i in range(len(calls)) if came.count(f"tool_calls.{i}") > 1]  # Mistral's SDK takes whole ones only
        texts |= {f"tool_calls.{i}": calls[i]["function"].get("arguments") or "" for i in cut}
        first: Body = {"role": message.get("role", "assistant"), "content": "" if message.get("content") else None}
        others = {
            name: v for name, v in message.items() if not (v is None or isinstance(v, str) or name == "tool_calls")
        }
        yield {"delta": first | others, "logprobs": choice.get("logprobs")}
        for i, call in enumerate(calls):
            yield {"delta": {"tool_calls": [_call_head(i, call) if i in cut else {"index": i, **call}]}}
        for name, piece in Pieces(texts, cuts):
            yield {"delta": _call_piece(name, piece) if name.startswith("tool_calls.") else {name: piece}}

    def piece(self, choice: Body) -> Body:
        return choice.get("delta") or {}

    def finished(self, message: Body) -> Body:
        calls = [{k: v for k, v in call.items() if k != "index"} for call in message.get("tool_calls", ())]
        base: Body = {"role": "assistant", "content": None}
        return {"message": {**base, **message, **({"tool_calls": calls} if calls else {})}}


class ChoicesAssembly(Assembly):
    """Puts the events of all choices together."""

    def __init__(self, n: int, dialect: Completions) -> None:
        super().__init__()
        self._n = n
        self._dialect = dialect
        self._head: Body = {}
        self._usage: Any = None
        self._choices: dict[int, Body] = {}
        self._messages: dict[int, Body] = {}
        self._cuts: dict[int, Cuts] = {}

    def add(self, frame: Frame) -> None:
        if frame.data == _DONE:
            self.ended = True
            return
        chunk = parse(frame)
        if chunk.get("error"):
            raise ErrorEvent(frame.data)
        self._usage = chunk.get("usage") or self._usage
        merge(self._head, {k: v for k, v in chunk.items() if k not in ("choices", "usage", "object")}, replace=True)
        for choice in cast("list[Body]", chunk.get("choices") or []):
            self._add(choice)
        finished = [choice for choice in self._choices.values() if choice.get("finish_reason")]
        self.ended = self.ended or len(finished) >= self._n

    def _add(self, choice: Body) -> None:
        index = choice.get("index") or 0
        piece = self._dialect.piece(choice)
        self._cuts.setdefault(index, []).extend(_lengths(piece))
        merge(self._messages.setdefault(index, {}), piece)
        whole = self._choices.setdefault(index, {"index": index, "finish_reason": None, "logprobs": None})
        merge(whole, {k: v for k, v in choice.items() if k not in ("index", "delta", "text", "finish_reason")})
        whole["finish_reason"] = choice.get("finish_reason") or whole["finish_reason"]

    def body(self) -> Body:
        choices = [self._choices[i] | self._dialect.finished(self._messages[i]) for i in sorted(self._choices)]
        usage = {} if self._usage is None else {"usage": self._usage}
        return {**self._head, "object": self._dialect.whole, "choices": choices, **usage}

    def cuts(self) -> list[Cuts]:
        return [self._cuts[i] for i in sorted(self._choices)]


def merge(whole: Body, piece: Body, *, replace: bool = False) -> None:
    """Add *piece* to *whole*: texts and lists grow, numbered items of lists grow each by itself."""
    for name, value in piece.items():
        known = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, str) and isinstance(known, str) and not replace and name not in _SET:
            whole[name] = known + value
        elif isinstance(value, dict) and isinstance(known, dict) and not replace:
            merge(cast("Body", known), cast("Body", value))
        elif isinstance(value, list) and not replace:
            items = cast("list[Any]", known) if isinstance(known, list) else []
            whole[name] = items
            _extend(items, cast("list[Any]", value))
        else:
            whole[name] = value


def _extend(items: list[Any], more: list[Any]) -> None:
    numbered: dict[Any, Body] = {item["index"]: item for item in items if isinstance(item, dict) and "index" in item}
    for item in more:
        index = cast("Body", item).get("index") if isinstance(item, dict) else None
        if index in numbered:
            merge(numbered[index], cast("Body", item))
        else:
            items.append(item)


def _lengths(piece: Body) -> Cuts:
    lengths: Cuts = [[name, len(v)] for name, v in piece.items() if isinstance(v, str) and v and name != "role"]
    for call in cast("list[Body]", piece.get("tool_calls") or []):
        function: Body = call.get("function") or {}
        if arguments := function.get("arguments"):
            lengths.append([f"tool_calls.{call.get('index') or 0}", len(arguments)])
    return lengths


def _call_head(index: int, call: Body) -> Body:
    return {"index": index, **call, "function": {**call["function"], "arguments": ""}}


def _call_piece(name: str, piece: str) -> Body:
    index = int(name.removeprefix("tool_calls."))
    return {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
