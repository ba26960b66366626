"""Gemini's generateContent and streamGenerateContent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from ._dialect import Assembly, Body, Cuts, Dialect, ErrorEvent, Pieces, frame, parse
from ._frames import Frame

_MADE = ("candidatesTokenCount", "thoughtsTokenCount")  # what is made for each candidate, and not once a call
_READ = ("promptTokenCount", "toolUsePromptTokenCount")


class Gemini(Dialect):
    """An answer is a list of candidates; an event is an answer with a piece of one."""

    n_field = "generationConfig.candidateCount"
    made = ("candidates", "promptFeedback")

    def streams(self, body: Body, path: str) -> bool:
        return ":streamGenerateContent" in path

    def assembly(self, n: int) -> Assembly:
        return GeminiAssembly(n)

    def split(self, body: Body) -> list[Body]:
        candidates = _candidates(body)
        if len(candidates) < 2:  # also a blocked prompt, which has none
            return [body]
        shares = _shares(body.get("usageMetadata") or {}, len(candidates))
        return [
            {**body, "candidates": [{**candidate, "index": 0}], **({"usageMetadata": share} if share else {})}
            for candidate, share in zip(candidates, shares, strict=True)
        ]

    def join(self, bodies: Sequence[Body], billed: Sequence[bool]) -> Body:
        if len(bodies) == 1:
            return bodies[0]
        candidates = [candidate for body in bodies for candidate in _candidates(body)]
        joined = {**bodies[-1], "candidates": [{**one, "index": index} for index, one in enumerate(candidates)]}
        bought = [one for one, counts in zip(bodies, billed, strict=True) if counts] if any(billed) else bodies
        usages: list[Body] = [body.get("usageMetadata") or {} for body in bought]
        if all(usages):
            joined["usageMetadata"] = _usage(usages[-1], {name: _sum(name, usages) for name in _MADE})
        return joined

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        whole = self.join(bodies, [False] * len(bodies))
        owned = [own for body, own in zip(bodies, cuts, strict=True) for _ in _candidates(body)]
        pieces = [one for candidate, own in zip(_candidates(whole), owned, strict=True) for one in _cut(candidate, own)]
        # The version of the model and the like are on every chunk, what is known at the end on the last.
        head = {name: value for name, value in whole.items() if isinstance(value, str)}
        yield from (frame({"candidates": [piece], **head}) for piece in pieces[:-1])
        yield frame({**whole, "candidates": pieces[-1:]} if pieces else whole)


class GeminiAssembly(Assembly):
    """Puts the chunks of all candidates together."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._n = n
        self._rest: Body = {}
        self._candidates: dict[int, Body] = {}
        self._cuts: dict[int, Cuts] = {}

    def add(self, frame: Frame) -> None:
        chunk = parse(frame)
        if chunk.get("error"):
            raise ErrorEvent(frame.data)
        self._rest |= {name: value for name, value in chunk.items() if name != "candidates"}
        for candidate in _candidates(chunk):
            self._add(candidate)
        finished = [one for one in self._candidates.values() if one.get("finishReason")]
        feedback: Body = self._rest.get("promptFeedback") or {}
        self.ended = len(finished) >= self._n or bool(feedback.get("blockReason"))

    def _add(self, piece: Body) -> None:
        index = piece.get("index") or 0
        whole = self._candidates.setdefault(index, {})
        cuts = self._cuts.setdefault(index, [])
        whole |= {name: value for name, value in piece.items() if name != "content"}
        if content := cast("Body", piece.get("content") or {}):
            known: Body = whole.setdefault("content", {})
            known |= {name: value for name, value in content.items() if name != "parts"}
            for part in _parts(content):
                _append(known.setdefault("parts", []), part, cuts)

    def body(self) -> Body:
        candidates = [self._candidates[index] for index in sorted(self._candidates)]
        return {**self._rest, **({"candidates": candidates} if candidates else {})}

    def cuts(self) -> list[Cuts]:
        return [self._cuts[index] for index in sorted(self._candidates)] or [[]]


def _candidates(body: Body) -> list[Body]:
    return body.get("candidates") or []


def _parts(content: Body) -> list[Body]:
    return content.get("parts") or []


def _plain(part: Body) -> bool:
    """Whether a part is text alone, of which a stream sends pieces."""
    return "text" in part and part.keys() <= {"text", "thought"}


def _append(parts: list[Body], part: Body, cuts: Cuts) -> None:
    """Add *part*, or its text to the part that it goes on with."""
    if not _plain(part):
        parts.append(part)
        return
    if not part["text"] and parts:  # the empty text of a chunk that came for its other fields
        return
    if len(parts) == 1 and _plain(parts[0]) and not parts[0]["text"]:
        parts.clear()
    if parts and _plain(parts[-1]) and bool(parts[-1].get("thought")) == bool(part.get("thought")):
        parts[-1] = {**parts[-1], "text": parts[-1]["text"] + part["text"]}
    else:
        parts.append(part)
    if part["text"]:
        cuts.append([str(len(parts) - 1), len(part["text"])])


def _cut(candidate: Body, cuts: Cuts | None) -> Iterator[Body]:
    """*candidate* piece by piece; the last one has all the other fields."""
    content: Body = candidate.get("content") or {}
    pieces = [piece for number, part in enumerate(_parts(content)) for piece in _pieces(str(number), part, cuts)]
    index = {"index": candidate["index"]} if "index" in candidate else {}
    yield from ({"content": {**content, "parts": [piece]}, **index} for piece in pieces[:-1])
    yield {**candidate, "content": {**content, "parts": pieces[-1:]}} if pieces else candidate


def _pieces(name: str, part: Body, cuts: Cuts | None) -> Iterator[Body]:
    if _plain(part) and part["text"]:
        yield from ({**part, "text": piece} for _, piece in Pieces({name: part["text"]}, cuts))
    else:
        yield part


def _shares(usage: Body, n: int) -> list[Body]:
    counts = {name: _sum(name, [usage]) for name in _MADE}
    return [
        _usage(usage, {name: made // n + (index < made % n) for name, made in counts.items()}) if usage else {}
        for index in range(n)
    ]


def _usage(usage: Body, made: dict[str, int]) -> Body:
    # The details of what was made are of one call, and no longer add up.
    kept = {name: value for name, value in usage.items() if name != "candidatesTokensDetails"}
    counts = {name: count for name, count in made.items() if count or name in usage}
    return {**kept, **counts, "totalTokenCount": sum(_sum(name, [usage]) for name in _READ) + sum(made.values())}


def _sum(name: str, usages: Sequence[Body]) -> int:
    return sum(int(usage.get(name) or 0) for usage in usages)
