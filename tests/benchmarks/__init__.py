"""Benchmarks: how long a request takes, beside the predecessor's."""
