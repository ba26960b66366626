"""The command line. It loads what a command needs only when that command runs."""

from __future__ import annotations

import click

from ._checking import reject, salvage, verify
from ._copies import cut, export_samples, import_samples, merge, prune
from ._demonstrating import demo
from ._finding import diff, explain, list_prompts, show
from ._summing import report, stats


class InGroups(click.Group):
    """Commands in the order in which they are added, not in that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InGroups)
@click.version_option(package_name="cachesaver")
def main() -> None:
    """Independent samples of language models, bought once and reused for ever.

    CACHE is a folder that holds a cache, or its file, whose name ends in .db. With --json every
    command prints JSON; errors go to standard error, and the exit status tells of them.
    """


for command in (
    *(demo, stats, report, list_prompts, show, explain, diff),
    *(export_samples, import_samples, merge, cut, prune),
    *(reject, verify, salvage),
):
    main.add_command(command)
