"""The same ablation on trio: what asyncio gathers, a nursery runs.

Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL.
"""

import os
from typing import Any

import trio
from openai import AsyncOpenAI

from cachesaver import Cache, RoundRobinLimiter, namespace
from cachesaver.models.openai import AsyncCachedOpenAIAPI

SAMPLES = ["the sea", "a cat"]
CONFIGS = {"one draft": 1, "two drafts": 2, "three drafts": 3}

Results = dict[str, dict[str, str]]


async def process_sample(api: AsyncCachedOpenAIAPI, config: str, sample: str, results: Results) -> None:
    """Write drafts about one topic, and have the model pick one."""
    with namespace(f"{config}/{sample}"):  # for every request from here on, in tasks of it too
        drafts = await ask(api, f"Write four words about {sample}.", CONFIGS[config])
        picked = await ask(api, "\n".join(["Which of these is best?", *drafts]), 1)
        results[config][sample] = picked[0]


async def ask(api: AsyncCachedOpenAIAPI, content: str, n: int) -> list[str]:
    body: dict[str, Any] = {
        "model": os.environ.get("MODEL", "gpt-4.1-nano"),
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 12,
        "n": n,
    }
    completion = await api.create_chat_completion(body)
    return [choice.message.content or "" for choice in completion.choices]


async def process_dataset(api: AsyncCachedOpenAIAPI, config: str, results: Results) -> None:
    async with trio.open_nursery() as nursery:
        for sample in SAMPLES:
            nursery.start_soon(process_sample, api, config, sample, results)


async def main() -> None:
    limiter = RoundRobinLimiter()
    limiter.add_resource(os.environ["OPENAI_API_KEY"], capacity=4)
    results: Results = {config: {} for config in CONFIGS}
    with Cache("cache_dir") as cache:
        async with (
            AsyncOpenAI() as aclient,
            AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, limiter=limiter) as api,
        ):
            async with trio.open_nursery() as nursery:
                for config in CONFIGS:
                    nursery.start_soon(process_dataset, api, config, results)
            for config in CONFIGS:
                print(config, [results[config][sample] for sample in SAMPLES])
            print(f"{api.stats.asked} samples asked, {api.stats.bought} bought")


trio.run(main)
