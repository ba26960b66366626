"""What a disk may hold after its power was cut: one of many possible images.

What was synced is there. Of all else each write is there, or not, or only some
of its sectors are, in any order; and a file's new size may have arrived before
its content. A name that came or went is durable once its folder was synced.
This assumes that a disk that says it has synced has done so.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ._disk import Link, Sync, SyncFolder, Truncate, Unlink, Write

_SECTOR = 512


def image(start: Mapping[str, bytes], log: Iterable[object], dice: random.Random) -> dict[str, bytes]:
    """The files of a folder that held *start* and lost power after *log*."""
    contents = defaultdict(bytearray, {name: bytearray(content) for name, content in start.items()})
    names = {name: name for name in start}
    unsynced: dict[str, list[Write | Truncate]] = defaultdict(list)
    loose: list[Link | Unlink] = []
    for event in log:
        match event:
            case Write() | Truncate():
                unsynced[event.inode].append(event)
            case Sync():
                _apply(contents[event.inode], unsynced.pop(event.inode, ()))
            case Link() | Unlink():
                loose.append(event)
            case SyncFolder():
                _rename(names, loose)
                loose.clear()
    luck = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    _rename(names, (event for event in loose if dice.random() < luck))
    for inode, events in unsynced.items():
        _apply(contents[inode], _arrived(len(contents[inode]), events, luck, dice))
    return {name: bytes(contents[inode]) for name, inode in names.items()}


def as_seen(log: Iterable[object]) -> dict[str, bytes]:
    """The files of a folder, at first empty, as every process sees them after *log*."""
    log = list(log)
    inodes = {event.inode for event in log if isinstance(event, Write)}
    return image({}, [*log, SyncFolder(), *map(Sync, inodes)], random.Random(0))


def laid_out(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The cache file in a new folder that holds *files*."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / "cache.db"


def _apply(content: bytearray, events: Iterable[Write | Truncate]) -> None:
    for event in events:
        if isinstance(event, Truncate):
            del content[event.size :]
        else:
            content.extend(bytes(max(0, event.offset - len(content))))
            content[event.offset : event.offset + len(event.data)] = event.data


def _rename(names: dict[str, str], events: Iterable[Link | Unlink]) -> None:
    for event in events:
        if isinstance(event, Link):
            names[event.name] = event.inode
        else:
            names.pop(event.name, None)


def _arrived(size: int, events: list[Write | Truncate], luck: float, dice: random.Random) -> Iterator[Write | Truncate]:
    """What arrives of writes that were under way."""
    inode = events[0].inode
    end = max((event.offset + len(event.data) for event in events if isinstance(event, Write)), default=0)
    if end > size and dice.random() < 0.5:
        yield Write(inode, size, dice.choice((bytes, dice.randbytes))(end - size))
    for event in dice.sample(events, len(events)) if dice.random() < 0.5 else events:
        torn = isinstance(event, Write) and dice.random() < 0.3
        yield from (part for part in (_sectors(event) if torn else (event,)) if dice.random() < luck)


def _sectors(write: Write) -> Iterator[Write]:
    end = write.offset + len(write.data)
    for sector in range(write.offset // _SECTOR * _SECTOR, end, _SECTOR):
        first, last = max(sector, write.offset), min(sector + _SECTOR, end)
        yield Write(write.inode, first, write.data[first - write.offset : last - write.offset])
