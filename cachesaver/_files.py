"""Names beside a file, and folders that keep them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def beside(path: Path, suffix: str) -> Path:
    """A file of the same name and place, with *suffix* behind."""
    return path.with_name(path.name + suffix)


def sync_folder(folder: Path) -> None:
    """Make what was created or removed in *folder* outlast a power loss."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
