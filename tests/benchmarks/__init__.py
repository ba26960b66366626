"""Benchmarks: each a command of its own, that measures ours and its peers side by side."""
