"""The quick start: four requests at a time on one key, and a repeated prompt that is a new sample.

Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL.
Run it twice: the second run prints the same, and buys nothing.
"""

import asyncio
import os

from openai import AsyncOpenAI

from cachesaver import AsyncRoundRobinLimiter, Cache
from cachesaver.models.openai import AsyncCachedOpenAIAPI

API_KEY = os.environ["OPENAI_API_KEY"]


async def main() -> None:
    with Cache("cache_dir") as cache:
        limiter = AsyncRoundRobinLimiter()
        for _ in range(4):
            limiter.add_resource(API_KEY)

        async with (
            AsyncOpenAI() as aclient,
            AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, limiter=limiter) as cached_api,
        ):
            prompt = {
                "model": os.environ.get("MODEL", "gpt-4.1-nano"),
                "messages": [{"role": "user", "content": "Name a colour."}],
                "max_tokens": 8,
            }
            for _ in range(2):
                completion = await cached_api.create_chat_completion(prompt)
                print(completion.choices[0].message.content)
            print(f"{len(cached_api.usages)} requests to the API")


asyncio.run(main())
