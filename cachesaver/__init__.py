"""cachesaver: independent samples of language models, bought once and reused for ever.

    with Cache("cache_dir") as cache:
        async with online(model, cache) as api:
            response = await api.request("prompt", n=2, namespace="puzzle-17")

Stages wrap one another and every one of them has `request`: see `Batcher`,
`Reorderer`, `Deduplicator`, `Cacher` and `Dispatcher`, and `Stage` for your own.
"""

from ._batcher import Batcher as Batcher
from ._cache import Cache as Cache
from ._cacher import Cacher as Cacher
from ._deduplicator import Deduplicator as Deduplicator
from ._dispatcher import Dispatcher as Dispatcher
from ._errors import CacheBusy as CacheBusy
from ._errors import CacheCorrupt as CacheCorrupt
from ._errors import CacheError as CacheError
from ._errors import CacheFull as CacheFull
from ._errors import CacheMiss as CacheMiss
from ._errors import CacheMoved as CacheMoved
from ._errors import CacheSaverError as CacheSaverError
from ._errors import CacheSaverWarning as CacheSaverWarning
from ._errors import CacheUnavailable as CacheUnavailable
from ._errors import Closed as Closed
from ._errors import ModelError as ModelError
from ._errors import NoResources as NoResources
from ._errors import StageCrashed as StageCrashed
from ._errors import Unacceptable as Unacceptable
from ._labels import namespace as namespace
from ._labels import request_id as request_id
from ._ledger import Ledger as Ledger
from ._ledger import LedgerLine as LedgerLine
from ._limits._limiter import AsyncRoundRobinLimiter as AsyncRoundRobinLimiter
from ._limits._limiter import RoundRobinLimiter as RoundRobinLimiter
from ._limits._limiter import UnlimitedLimiter as UnlimitedLimiter
from ._limits._rate import LeakyBucket as LeakyBucket
from ._limits._resource import Resource as Resource
from ._presets import local as local
from ._presets import online as online
from ._prices import PRICES as PRICES
from ._prices import Price as Price
from ._records import Usage as Usage
from ._reorderer import Reorderer as Reorderer
from ._request import Request as Request
from ._request import Response as Response
from ._request import Sample as Sample
from ._stage import Inbox as Inbox
from ._stage import Stage as Stage
from ._stats import Stats as Stats
from ._sync import Sync as Sync
from ._sync import sync as sync
from ._ticket import Ticket as Ticket
from ._validator import Validator as Validator
from ._validator import unfinished as unfinished
