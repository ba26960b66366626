"""An ablation as research code has it: one namespace for each configuration and sample, everything at once.

Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL.
"""

import asyncio
import os
from typing import Any

from openai import AsyncOpenAI

from cachesaver import Cache, RoundRobinLimiter, namespace
from cachesaver.models.openai import AsyncCachedOpenAIAPI

SAMPLES = ["the sea", "a cat"]
CONFIGS = {"one draft": 1, "two drafts": 2, "three drafts": 3}


async def process_sample(api: AsyncCachedOpenAIAPI, config: str, sample: str) -> str:
    """Write drafts about one topic, and have the model pick one."""
    with namespace(f"{config}/{sample}"):  # for every request from here on, in tasks of it too
        drafts = await ask(api, f"Write four words about {sample}.", CONFIGS[config])
        picked = await ask(api, "\n".join(["Which of these is best?", *drafts]), 1)
        return picked[0]


async def ask(api: AsyncCachedOpenAIAPI, content: str, n: int) -> list[str]:
    body: dict[str, Any] = {
        "model": os.environ.get("MODEL", "gpt-4.1-nano"),
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 12,
        "n": n,
    }
    completion = await api.create_chat_completion(body)
    return [choice.message.content or "" for choice in completion.choices]


async def process_dataset(api: AsyncCachedOpenAIAPI, config: str) -> list[str]:
    return await asyncio.gather(*(process_sample(api, config, sample) for sample in SAMPLES))


async def main() -> None:
    limiter = RoundRobinLimiter()
    limiter.add_resource(os.environ["OPENAI_API_KEY"], capacity=4)
    with Cache("cache_dir") as cache:
        async with (
            AsyncOpenAI() as aclient,
            AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, limiter=limiter) as api,
        ):
            results = await asyncio.gather(*(process_dataset(api, config) for config in CONFIGS))
            for config, result in zip(CONFIGS, results, strict=True):
                print(config, result)
            print(f"{api.stats.asked} samples asked, {api.stats.bought} bought")


asyncio.run(main())
