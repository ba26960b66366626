"""Asking many things at once."""

from __future__ import annotations

from anyio import create_task_group

from cachesaver import Request, Response, Stage


async def gather(api: Stage, requests: list[Request]) -> list[Response | Exception]:
    """All responses, or errors, of requests made at once by tasks of their own."""
    results: dict[int, Response | Exception] = {}

    async def ask(index: int, request: Request) -> None:
        try:
            results[index] = await api.request(request.prompt, request.n, request.namespace, request.request_id)
        except Exception as error:
            results[index] = error

    async with create_task_group() as tasks:
        for index, request in enumerate(requests):
            tasks.start_soon(ask, index, request)
    return [results[index] for index in range(len(requests))]
