"""Every error of the library, grouped by what a caller can do about it.

CacheSaverError
├── Closed            ask inside the `async with` block
├── StageCrashed      a bug in a stage: report it
├── ModelError        the model broke its contract: mend the model
├── NoResources       no key of the limiter is left: add a new one
├── Unacceptable      no sample passed the check: look at them, ask again
├── CacheMiss         offline, and the sample is not in the cache
└── CacheError        the cache file: each says what was kept and what to do
    ├── CacheFull         no space
    ├── CacheBusy         another process holds the file
    ├── CacheCorrupt      damaged, or no cache of ours
    ├── CacheUnavailable  cannot be opened or written
    └── CacheMoved        the file was moved, replaced or deleted
"""

from __future__ import annotations


class CacheSaverError(Exception):
    """Base class of every error that this library raises of its own."""


class CacheSaverWarning(UserWarning):
    """What a run should know, and need not stop for: unstable ids, a cache that could not be written."""


class Closed(CacheSaverError):
    """The stack is not running: not entered yet, left, or stopped before it could answer."""


class StageCrashed(CacheSaverError):
    """A stage itself failed. That is a bug in the stage, not in a request; its cause is chained."""


class ModelError(CacheSaverError):
    """The model broke its contract: a wrong number of answers, or an answer that is no JSON.

    `answers` holds what the model returned, for it may have been paid for.
    """

    def __init__(self, message: str, answers: object = None) -> None:
        super().__init__(message)
        self.answers = answers


class Unacceptable(CacheSaverError):
    """No attempt brought a sample that passed the check of a `Validator`.

    `answers` are the bad ones of the last attempt, `reasons` what was wrong with each.
    """

    def __init__(self, message: str, answers: list[object], reasons: list[str]) -> None:
        super().__init__(message)
        self.answers = answers
        self.reasons = reasons


class NoResources(CacheSaverError):
    """Every resource of a limiter is retired: its key was refused, or its quota is used up. The message says which."""


class CacheMiss(CacheSaverError):
    """A sample was asked for offline, and the cache does not hold it.

    `prompt` and `scope` name what was asked, `known` how many samples of it the
    cache holds, `nearest` the most similar known prompt (or None), and
    `differences` the fields in which that one differs.
    """

    def __init__(
        self,
        message: str,
        *,
        prompt: object,
        scope: str,
        known: int,
        nearest: object = None,
        differences: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.prompt = prompt
        self.scope = scope
        self.known = known
        self.nearest = nearest
        self.differences = differences


class CacheError(CacheSaverError):
    """The cache file could not be used as asked. What was stored before stays as it was."""


class CacheFull(CacheError):
    """No space is left for the cache file."""


class CacheBusy(CacheError):
    """Another process holds the cache file for too long."""


class CacheCorrupt(CacheError):
    """The file, or one sample in it, is damaged or is no cache of ours."""


class CacheUnavailable(CacheError):
    """The cache cannot be opened or written: closed, missing, read-only or not permitted."""


class CacheMoved(CacheError):
    """The cache file was moved, replaced or deleted while it was open."""
