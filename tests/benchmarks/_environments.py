"""Peers in environments of their own: nothing of them is part of ours, and one may even have our name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PREDECESSOR = "cachesaver==0.0.6"
NEEDED = ("deepdiff", "diskcache")  #: what its pipelines import; the rest of its dependencies are providers' SDKs
ROOT = Path(__file__).parents[2]


def install(folder: Path, *packages: str) -> None:
    """Into a folder that PYTHONPATH can name."""
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, "--upgrade", "--target", folder, *packages], check=True, stderr=subprocess.DEVNULL)


def environment(folder: Path, *installs: tuple[str, ...]) -> str:
    """A virtual environment with what each of *installs* asks pip for; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    pip = (python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for packages in installs:
        subprocess.run([*pip, *packages], check=True, stderr=subprocess.DEVNULL)
    return python
