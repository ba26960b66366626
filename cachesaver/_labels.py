"""Namespace and request id by context: set once, inherited by every task started inside."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_namespace: ContextVar[str | None] = ContextVar("cachesaver_namespace", default=None)
_request_id: ContextVar[str | None] = ContextVar("cachesaver_request_id", default=None)


@contextmanager
def namespace(name: str) -> Generator[None]:
    """Ask every request inside this block in namespace *name*; nested blocks join with "/"."""
    yield from _labelled(_namespace, "namespace", name)


@contextmanager
def request_id(name: str) -> Generator[None]:
    """Give every request inside this block the id *name*; nested blocks join with "/"."""
    yield from _labelled(_request_id, "request_id", name)


def current_namespace() -> str:
    """The namespace of this context, "default" outside every block."""
    return _namespace.get() or "default"


def context_namespace() -> str | None:
    """The namespace of this context, None outside every block."""
    return _namespace.get()


def current_request_id() -> str | None:
    """The request id of this context, None outside every block."""
    return _request_id.get()


def check_label(what: str, name: object) -> None:
    """Refuse a label that is not a string of at least one character, fit for UTF-8."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}")
    if not name:
        raise ValueError(f"{what} must not be empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} cannot be written as UTF-8: {error}") from None


def _labelled(label: ContextVar[str | None], what: str, name: str) -> Generator[None]:
    check_label(what, name)
    outer = label.get()
    token = label.set(name if outer is None else f"{outer}/{name}")
    try:
        yield
    finally:
        label.reset(token)
