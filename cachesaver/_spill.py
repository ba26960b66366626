"""What could not be stored by the end of a run: kept in a file beside the cache, which the next opening takes in.

A line of JSON for each sample or assignment, with a checksum, behind a line that makes
the file unlike all others; readable by its owner only.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ._files import sync_folder
from ._prompt import Prompt, decode
from ._records import Answer, Bought, Record, Usage

_SUFFIX = ".spill"
_LINE_LIMIT = 64 * 2**20  # bytes; a longer line is none of ours


@dataclass
class Spilled:
    """What a spill file holds, how many of its lines are damaged, and what tells it from all others."""

    sales: list[Bought] = field(default_factory=list[Bought])
    records: list[Record] = field(default_factory=list[Record])
    damaged: int = 0
    digest: str = ""


def write(cache: Path, sales: Sequence[Bought], records: Sequence[Record]) -> Path:
    """Keep *sales* and *records* beside the file *cache*, or in the folder for temporary files if that fails."""
    name = f"{cache.name}.{secrets.token_hex(8)}{_SUFFIX}"
    try:
        return _written(cache.with_name(name), sales, records)
    except OSError:  # no space there, or no permission
        return _written(Path(tempfile.gettempdir(), name), sales, records)


def waiting(cache: Path) -> list[Path]:
    """The files that wait beside *cache*."""
    names = cache.parent.glob(f"{cache.name}.*{_SUFFIX}")
    return sorted(path for path in names if path.is_file() and not path.is_symlink())


def read(file: int) -> Spilled:
    """What an open spill file holds."""
    spilled, digest = Spilled(), blake2b(digest_size=16)
    with os.fdopen(os.dup(file), "rb") as lines:
        while line := lines.readline(_LINE_LIMIT):
            digest.update(line)
            item = _item(line)
            if isinstance(item, Bought):
                spilled.sales.append(item)
            elif isinstance(item, Record):
                spilled.records.append(item)
            elif item is None:
                spilled.damaged += 1
    spilled.digest = digest.hexdigest()
    return spilled


def remove(path: Path) -> None:
    """The file was taken in."""
    path.unlink()
    sync_folder(path.parent)


def locked(path: Path) -> int | None:
    """An open descriptor of *path* that no other process has; None if one has, or the file is gone."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if not os.path.lexists(path):  # another process has just taken it in
            os.close(file)
            return None
    return file


def _written(path: Path, sales: Sequence[Bought], records: Sequence[Record]) -> Path:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as lines:
            lines.write(_sealed({"spill": secrets.token_hex(16)}))
            lines.writelines(map(_line, [*sales, *records]))
            lines.flush()
            os.fsync(file)
        sync_folder(path.parent)
    except BaseException:
        path.unlink()
        raise
    return path


def _line(item: Bought | Record) -> bytes:
    fields = {**item._asdict(), "key": item.key.hex()}
    if isinstance(item, Record):
        return _sealed({"assignment": fields})
    usage = item.answer.usage
    return _sealed({"sample": {**fields, "answer": {**item.answer._asdict(), "usage": usage and asdict(usage)}}})


def _sealed(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True)
    return f"{_checksum(text)} {text}\n".encode()


def _item(line: bytes) -> Bought | Record | str | None:
    """What a line says, a text for the first one; None if it is damaged, or no such line."""
    try:
        checksum, text = line.decode("ascii").rstrip("\n").split(" ", 1)
        if checksum != _checksum(text):
            return None
        ((kind, fields),) = decode(text).items()
        if kind == "spill":
            return str(fields)
        return _sample(fields) if kind == "sample" else _assignment(fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _sample(fields: dict[str, Any]) -> Bought | None:
    answer, usage = fields["answer"], fields["answer"]["usage"]
    sale = Bought(
        bytes.fromhex(fields["key"]),
        fields["scope"],
        fields["prompt"],
        fields["position"],
        Answer(answer["body"], answer["seconds"], None if usage is None else Usage(**usage)),
        fields.get("cost"),
    )
    return sale if Prompt(decode(sale.prompt)).key(sale.scope) == sale.key else None


def _assignment(fields: dict[str, Any]) -> Record:
    draw = fields["namespace"], bytes.fromhex(fields["key"]), fields["request_id"], fields["ordinal"]
    return Record(*draw, fields["position"])


def _checksum(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
