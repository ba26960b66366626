"""The tokens of an answer, as each provider tells them."""

from __future__ import annotations

from typing import Any

import pytest

from cachesaver._records import Usage
from cachesaver._usage import usage_of


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}, Usage(3, 5)),
        ({"usage": {"input_tokens": 3, "output_tokens": 5}}, Usage(3, 5)),
        ({"usage": {"prompt_tokens": 3}}, Usage(3, 0)),  # embeddings
        ({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 2}}, Usage(3, 7)),
        ({"usage": {"billed_units": {}, "tokens": {"input_tokens": 3, "output_tokens": 5}}}, Usage(3, 5)),
        ({"meta": {"tokens": {"input_tokens": 3, "output_tokens": 5}}}, Usage(3, 5)),
        ({"prompt_eval_count": 3, "eval_count": 5, "message": {}}, Usage(3, 5)),
        ({"usage": {"prompt_tokens": "3", "completion_tokens": True}}, None),
        ({"usage": None}, None),
        ({"answer": 42}, None),
        ("text", None),
        ([1, 2], None),
    ],
)
def test_usage(answer: Any, usage: Usage | None) -> None:
    """D6: what a sample has cost stands beside it."""
    assert usage_of(answer) == usage
