"""A real terminal: a program runs on a pty, and what it wrote there is told."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import time
from contextlib import closing
from pathlib import Path
from typing import IO

HEADER = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C typed there reaches this program
"""
PATIENCE = 30.0  #: seconds
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  #: the cursor


def on_terminal(program: str, *, strike: str | None = None, stdout: Path | None = None) -> tuple[int, str]:
    """Its exit status, and what the terminal got. Ctrl-C is typed once *strike* is there; stdout goes to a file."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 200))
    out: IO[bytes] | int = slave if stdout is None else stdout.open("wb")
    command = [sys.executable, "-c", HEADER + program]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    environment["TERM"] = "xterm"
    with closing(os.fdopen(master, "rb", 0)) as screen:
        process = subprocess.Popen(
            command, stdin=slave, stdout=out, stderr=slave, start_new_session=True, env=environment
        )
        os.close(slave)
        if not isinstance(out, int):
            out.close()
        written = _read(screen, strike)
        return process.wait(PATIENCE), written.replace("\r\n", "\n")


def frames(written: str) -> int:
    """How often a live display was drawn: each time over the one before."""
    return len(re.findall(r"\x1b\[2K(?=\x1b\[1m)", written))


def _read(screen: IO[bytes], strike: str | None) -> str:
    written = b""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            piece = os.read(screen.fileno(), 65536)
        except OSError:  # the program has ended
            return written.decode()
        written += piece
        if strike is not None and strike.encode() in written:
            os.write(screen.fileno(), b"\x03")
            strike = None
    raise TimeoutError(written.decode())
