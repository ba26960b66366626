"""The same program, with only its import line changed: first it asks as before, then it costs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .._provider_server import ProviderServer, provider_server

ASK = 'messages=[{"role": "user", "content": "hello"}]'
PROGRAMS = {
    "openai": f"""
from openai import OpenAI
print(OpenAI().chat.completions.create(model="m", {ASK}).choices[0].message.content)
""",
    "openai, async": f"""
import asyncio
from openai import AsyncOpenAI

async def main():
    async with AsyncOpenAI() as client:
        answers = await asyncio.gather(*[client.chat.completions.create(model="m", {ASK}) for _ in range(3)])
        print(sorted(answer.choices[0].message.content for answer in answers))

asyncio.run(main())
""",
    "anthropic": f"""
from anthropic import Anthropic
with Anthropic().messages.stream(model="m", max_tokens=9, {ASK}) as stream:
    print("".join(stream.text_stream))
""",
    "gemini": """
from google.genai import Client
client = Client()
print(client.models.generate_content(model="m", contents="hello").text)
""",
    "groq": f"""
from groq import Groq
print(Groq().chat.completions.create(model="m", {ASK}).choices[0].message.content)
""",
    "together": f"""
from together import Together
print(Together().chat.completions.create(model="m", {ASK}).choices[0].message.content)
""",
    "mistral": f"""
import os
from mistralai.client import Mistral
with Mistral(api_key="key", server_url=os.environ["URL"]) as client:
    print(client.chat.complete(model="m", {ASK}).choices[0].message.content)
""",
    "cohere": f"""
from cohere import ClientV2
print(ClientV2().chat(model="m", {ASK}).message.content[0].text)
""",
    "ollama": f"""
from ollama import Client
print("".join(line.message.content for line in Client().chat("m", {ASK}, stream=True)))
""",
    "huggingface": f"""
import os
from huggingface_hub import InferenceClient
client = InferenceClient(base_url=os.environ["URL"], api_key="key")
print(client.chat.completions.create({ASK}).choices[0].message.content)
""",
}
IMPORTS = {
    "from openai import": "from cachesaver.models.openai import",
    "from anthropic import": "from cachesaver.models.anthropic import",
    "from google.genai import": "from cachesaver.models.gemini import",
    "from groq import": "from cachesaver.models.groq import",
    "from together import": "from cachesaver.models.together import",
    "from mistralai.client import": "from cachesaver.models.mistral import",
    "from cohere import": "from cachesaver.models.cohere import",
    "from ollama import": "from cachesaver.models.ollama import",
    "from huggingface_hub import": "from cachesaver.models.huggingface import",
}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


def run(program: str, url: str, folder: Path) -> str:
    """What *program* prints, in a process of its own."""
    keys = ("OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "TOGETHER", "CO")
    urls = {
        "URL": url,
        "OPENAI_BASE_URL": f"{url}/v1",
        "ANTHROPIC_BASE_URL": url,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GROQ_BASE_URL": url,
        "TOGETHER_BASE_URL": url,
        "CO_API_URL": url,
        "OLLAMA_HOST": url,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **urls, **{f"{name}_API_KEY": "key" for name in keys}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_the_import_line_changes(server: ProviderServer, tmp_path: Path, name: str) -> None:
    """S5: the changed program buys once, and then gives the same again for nothing."""
    program = PROGRAMS[name]
    old, new = next(pair for pair in IMPORTS.items() if pair[0] in program)
    before = run(program, server.url, tmp_path)
    sold = server.sold
    assert "answer 0" in before
    assert not list(tmp_path.iterdir())
    first = run(program.replace(old, new), server.url, tmp_path)
    assert server.sold == 2 * sold
    assert first != before
    assert run(program.replace(old, new), server.url, tmp_path) == first
    assert server.sold == 2 * sold
