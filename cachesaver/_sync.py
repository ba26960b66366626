"""sync: a stack for code without `await`, in a thread of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.lowlevel import current_token

from ._labels import current_namespace, current_request_id
from ._request import REJECTED, Request, Response
from ._stage import Stage
from ._stats import Stats
from ._threads import unbroken

T = TypeVar("T")


@contextmanager
def sync(stack: Stage, *, backend: Literal["asyncio", "trio"] = "asyncio") -> Generator[Sync]:
    """Enter *stack* in an event loop in a thread of its own, for scripts and notebooks: a context manager of a `Sync`.

    *backend* is the loop that the model is written for; a plain function runs on either. Raises
    RuntimeError where trio would have to wait for another trio: inside a program on trio.
    """
    if not isinstance(stack, Stage):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"sync takes a stack such as online(model, cache), not {type(stack).__name__}")
    if backend == "trio" and _inside_trio():
        raise RuntimeError(
            "trio does not wait for another trio: here, inside a program on trio, use `async with stack as api`,"
            ' or sync(stack, backend="asyncio")'
        )
    with start_blocking_portal(backend, name="cachesaver sync") as portal, portal.wrap_async_context_manager(stack):
        yield Sync(stack, portal)


def _inside_trio() -> bool:
    try:
        return not hasattr(current_token().native_token, "call_soon_threadsafe")
    except RuntimeError:
        return False


class Sync:
    """The door of a stack for plain code; any number of threads may ask it at the same time."""

    def __init__(self, stack: Stage, portal: BlockingPortal) -> None:
        self._stack = stack
        self._portal = portal

    def request(self, prompt: Any, n: int = 1, namespace: str | None = None, request_id: str | None = None) -> Response:
        """Ask for *n* samples of *prompt*; labels default to those of the context. Errors as `Stage.request`."""
        labels = (
            current_namespace() if namespace is None else namespace,
            current_request_id() if request_id is None else request_id,
        )
        return self._call(self._stack.request, prompt, n, *labels)

    def batch_request(self, requests: Iterable[Request]) -> list[Response]:
        """Ask all *requests* at once; answers in their order. Errors as `Stage.batch_request`."""
        return self._call(self._stack.batch_request, list(requests))

    def reject(self, response: Response, reason: str = REJECTED, *, which: Sequence[int] | None = None) -> None:
        """Mark samples so that nobody gets them any more; as `Stage.reject`."""
        self._call(partial(self._stack.reject, response, reason, which=which))

    @contextmanager
    def map(
        self, source: Iterable[Any], *, window: int = 256, ordered: bool = True, progress: bool | str = False
    ) -> Generator[Iterator[Response]]:
        """Ask everything in *source*, prompts or Requests, at most *window* at a time: an iterator of responses.

        As `Stage.map`: a failed request raises its own error when its turn comes, and iterating on goes on.
        *source* is iterated in the thread of the stack, which waits for it. *progress* shows how far it is.
        """
        mapping = self._stack.map(source, window=window, ordered=ordered, progress=progress)
        with self._portal.wrap_async_context_manager(mapping) as responses:
            yield _InTurn(partial(self._call, anext, responses))

    @property
    def stats(self) -> Stats:
        """What the stack did since it was entered."""
        return self._stack.stats

    def _call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        asked: list[Future[T]] = []
        try:
            unbroken(lambda portal: asked.append(portal.start_task_soon(function, *args)), self._portal)
            return asked[0].result()
        except BaseException:  # such as Ctrl-C: then nobody takes the answer
            for future in asked:
                future.cancel()
            raise


class _InTurn(Iterator[Response]):
    """The responses of one `map`; unlike a generator it goes on after an error."""

    def __init__(self, following: Callable[[], Response]) -> None:
        self._following = following

    def __next__(self) -> Response:
        try:
            return self._following()
        except StopAsyncIteration:
            raise StopIteration from None
