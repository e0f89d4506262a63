"""The gb10 command.

Nothing heavy is imported here, so that `gb10 --help` and completion answer at once.
"""

from __future__ import annotations

import click

from gb10.cli.app import Gb10Group


@click.group(cls=Gb10Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pyinfra-gb10", prog_name="gb10")
def main() -> None:
    """Run the life of a small NVIDIA GB10 (DGX Spark) cluster.

    Everything that changes a node is a pyinfra deploy, and can be seen before with --dry-run.
    """
