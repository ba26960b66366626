"""What survives power loss, kills, failing disks and damage.

The small figure runs by default; the large one with

    CACHESAVER_LONG=1 python -m pytest tests/durability

Each test prints its seed when it fails; CACHESAVER_SEED repeats it.
"""
