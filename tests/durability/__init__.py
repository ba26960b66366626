"""What survives power loss, kills, failing disks and damage.

The small figure runs by default; the large one with

    CACHESAVER_LONG=1 python -m pytest tests/durability

Every protection has a control: a test named `test_control_...` beside those of the
protection, which takes it out and asserts that they would notice. All of them, here
and in the other folders, are run by

    python -m pytest -m control

| taken out | control beside |
| --- | --- |
| the lock; the savepoint | test_isolation |
| the checksum | test_damage |
| the sync, the journal's settings | test_power_loss |
| committing before it is said | test_kills, ../test_cache |
| the memory of what a failed commit has placed; the judge's own eyes | test_failing_writes |
| the shield of a stage, its deadline, the spilling at its end | ../test_shutdown |
| failing what a broken stage owes | ../test_shutdown |
| a limiter's taking back, and its release on cancellation | ../test_limiter |
| the end of a task, a thread, a descriptor, a loan | ../test_leaks |

Each test prints its seed when it fails; CACHESAVER_SEED repeats it.
"""
