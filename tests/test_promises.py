"""Every promise of the semantics is named by a test that proves it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PROMISES = [
    *(f"S{number}" for number in range(1, 15)),
    *(f"F{number}" for number in range(1, 10)),
    *(f"L{number}" for number in range(1, 6)),
    *(f"D{number}" for number in range(1, 7)),
]


def named() -> dict[str, list[str]]:
    """The tests by the numbers that their docstrings, or those of their classes, name."""
    tests: dict[str, list[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                for number in re.findall(r"\b[SFLD][0-9]+\b", ast.get_docstring(node) or ""):
                    tests.setdefault(number, []).append(f"{file.name}::{node.name}")
    return tests


def test_every_promise_has_its_test() -> None:
    tests = named()
    assert [number for number in PROMISES if number not in tests] == []


def test_no_test_names_a_promise_that_is_none() -> None:
    assert sorted(set(named()) - set(PROMISES)) == []
