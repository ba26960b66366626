"""The part of vLLM's interface that the docs use, since the real one needs hardware that tests do not have.

Signatures as vLLM documents them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int | None = 16


@dataclass
class CompletionOutput:
    text: str


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    def __init__(self, model: str) -> None:
        self.model = model

    def generate(
        self, prompts: Sequence[str], sampling_params: SamplingParams | None = None, *, use_tqdm: bool = True
    ) -> list[RequestOutput]:
        return [RequestOutput([CompletionOutput(f" an answer to {prompt!r}")]) for prompt in prompts]
