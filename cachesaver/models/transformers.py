"""Local language models of the transformers library, asked in batches."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

try:
    torch: Any = import_module("torch")  # whose types would be unknown to whoever has not installed it
    import_module("transformers")
except ImportError as error:
    message = "cachesaver.models.transformers needs transformers and torch: pip install 'cachesaver[transformers]'"
    raise ImportError(message) from error

Answer = dict[str, Any]
Answers = dict[int, Answer | Exception]  # by their places in the batch
Rows = list["_Row"]

_RENAMED = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens", "stop": "stop_strings"}


@dataclass(frozen=True, slots=True)
class _Row:
    """One prompt of a batch: its text as the model reads it, how it is to be sampled, and where it is wanted."""

    text: str
    options: str  # JSON, so that equal ones are equal
    places: tuple[int, ...]  # in the batch

    @property
    def copies(self) -> int:
        return len(self.places)

    def some(self, start: int, end: int) -> _Row:
        """The same prompt, for some of its places."""
        return _Row(self.text, self.options, self.places[start:end])


class TransformersModel:
    """A causal language model and its tokenizer, as a model for `local(model, cache, batch_size=..., timeout=60)`.

    A prompt is a string, a list of chat messages (written by the tokenizer's template), or
    a dict of `prompt` or `messages` and what `generate` takes for this one: `max_new_tokens`,
    `temperature`, `stop`, ... The others have *generate_defaults*. An answer is a dict of
    `text`, `finish_reason` ("stop" or "length") and `usage`.

    Prompts with the same settings share a batch; equal prompts are read once. One batch at a
    time is on the device. One that does not fit into memory is halved, and the size that fits is
    remembered. One that fails is halved until the prompt is found that is to blame; the
    others are answered. With a *seed* the same batches in the same order give the same
    answers: use it with an empty cache, or a run that goes on draws what it has drawn before.
    """

    def __init__(self, model: Any, tokenizer: Any, *, seed: int | None = None, **generate_defaults: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        json.dumps(generate_defaults)  # they are part of what names the model: TypeError for what is no JSON
        self.defaults = generate_defaults
        self.fits: int | None = None  #: how many sequences at once are known to fit into memory; None: all so far
        self._seed = seed
        self._calls = 0
        self._device = threading.Lock()

    @property
    def cache_scope(self) -> str:
        """The name of the weights, and the settings that answers depend on."""
        name = getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__
        name = Path(name).name if Path(name).is_dir() else name  # the same weights elsewhere are the same weights
        return f"transformers/{name}?{json.dumps(self.defaults, sort_keys=True)}"

    def batch_request(self, prompts: Sequence[Any]) -> list[Answer | Exception]:
        """An answer to each of *prompts*, or the exception that it has raised."""
        answers: Answers = {}
        with self._device:
            for rows in self._groups(prompts, answers):
                self._serve(rows, answers)
        return [answers[place] for place in range(len(prompts))]

    # What goes together

    def _groups(self, prompts: Sequence[Any], answers: Answers) -> list[Rows]:
        """Rows that one call can serve: of equal settings, and wanted equally often."""
        read: dict[tuple[str, str], list[int]] = {}
        for place, prompt in enumerate(prompts):
            try:
                read.setdefault(self._read(prompt), []).append(place)
            except Exception as error:  # the template refuses it, perhaps
                answers[place] = error
        groups: dict[tuple[str, int], Rows] = {}
        for (text, options), places in read.items():
            row = _Row(text, options, tuple(places))
            groups.setdefault((options, row.copies), []).append(row)
        return list(groups.values())

    def _read(self, prompt: Any) -> tuple[str, str]:
        """The text that the model reads, and the settings."""
        asked: dict[str, Any] = dict(cast("dict[str, Any]", prompt)) if isinstance(prompt, dict) else {"prompt": prompt}
        messages = asked.pop("messages", None)
        text = asked.pop("prompt", None)
        if isinstance(text, list):
            messages, text = cast("list[Any]", text), None
        if (messages is None) == (text is None):
            raise ValueError("a prompt is a string, a list of messages, or a dict of one of `prompt` and `messages`")
        if messages is not None:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if not isinstance(text, str):
            raise TypeError(f"a prompt must be text, not {type(text).__name__}")
        asked.pop("model", None)
        options = {_RENAMED.get(name, name): value for name, value in {**self.defaults, **asked}.items()}
        return text, json.dumps(options, sort_keys=True)

    # What one call serves

    def _serve(self, rows: Rows, answers: Answers) -> None:
        if self.fits is not None and rows[0].copies > self.fits:
            for row in rows:
                for start in range(0, row.copies, self.fits):
                    self._serve_or_halve([row.some(start, start + self.fits)], answers)
            return
        at_once = len(rows) if self.fits is None else self.fits // rows[0].copies
        for start in range(0, len(rows), at_once):
            self._serve_or_halve(rows[start : start + at_once], answers)

    def _serve_or_halve(self, rows: Rows, answers: Answers) -> None:
        try:
            made = self._generate(rows)
        except Exception as error:
            if sum(row.copies for row in rows) == 1:
                answers[rows[0].places[0]] = error
                return
            if _out_of_memory(error):
                self.fits = sum(row.copies for row in rows) // 2
        else:
            for row, texts in zip(rows, made, strict=True):
                for place, answer in zip(row.places, texts, strict=True):
                    answers[place] = answer
            return
        _free()  # here, where no traceback holds the tensors of the batch any more
        for half in _halves(rows):
            self._serve(half, answers)

    def _generate(self, rows: Rows) -> list[list[Answer]]:
        """For each row as many answers as it has copies."""
        options: dict[str, Any] = json.loads(rows[0].options)
        told: Any = options.get("stop_strings") or []
        stops: list[str] = [told] if isinstance(told, str) else told
        if options.get("temperature") == 0:
            options = {**options, "do_sample": False, "temperature": None}
        if rows[0].copies > 1 and not options.get("do_sample", self.model.generation_config.do_sample):
            made = self._generate([row.some(0, 1) for row in rows])
            return [texts * row.copies for texts, row in zip(made, rows, strict=True)]  # the likeliest is one
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        inputs = self._tokens([row.text for row in rows], pad)
        self._calls += 1
        with torch.inference_mode(), _seeded(self._seed, self._calls):
            output: Any = self.model.generate(
                **inputs,
                num_return_sequences=rows[0].copies,
                pad_token_id=pad,
                **({"tokenizer": self.tokenizer} if stops else {}),
                **options,
            )
        asked = inputs["attention_mask"].sum(dim=1).tolist()
        made = output[:, inputs["input_ids"].shape[1] :].tolist()
        ends = self._ends()
        return [
            [
                self._answer(made[number * row.copies + copy], int(asked[number]), ends, stops)
                for copy in range(row.copies)
            ]
            for number, row in enumerate(rows)
        ]

    def _tokens(self, texts: list[str], pad: int) -> dict[str, Any]:
        """Padded on the left, so that all go on at the same place."""
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=True)["input_ids"]
        longest = max(map(len, encoded))
        ids = [[pad] * (longest - len(tokens)) + tokens for tokens in encoded]
        mask = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in encoded]
        device = self.model.device
        return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}

    def _ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        told: Any = self.model.generation_config.eos_token_id
        tokens = cast("list[Any]", told) if isinstance(told, list) else [told]
        return frozenset(token for token in (*tokens, self.tokenizer.eos_token_id) if token is not None)

    def _answer(self, tokens: list[int], asked: int, ends: frozenset[int], stops: list[str]) -> Answer:
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        said = tokens if end is None else tokens[:end]
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        cuts = [text.index(stop) for stop in stops if stop in text]
        if cuts:
            text = text[: min(cuts)]
        used = len(said) + (end is not None)
        return {
            "text": text,
            "finish_reason": "stop" if cuts or end is not None else "length",
            "usage": {"prompt_tokens": asked, "completion_tokens": used, "total_tokens": asked + used},
        }


def _halves(rows: Rows) -> tuple[Rows, Rows]:
    if len(rows) > 1:
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]
    row, half = rows[0], rows[0].copies // 2
    return [row.some(0, half)], [row.some(half, row.copies)]


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _seeded(seed: int | None, call: int) -> Generator[None]:
    """The random numbers of one call, by *seed*; the program's own are left as they are."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(hash((seed, call)) & (2**63 - 1))
        yield
