"""`optimum-cli export sprint`: what sprint-export adds to optimum's command line (pip install examples/optimum_plugin).

optimum-cli imports every file of the namespace package optimum.commands.register and reads REGISTER_COMMANDS. None of the folders
above has an `__init__.py`, so nothing of optimum is hidden. Source: optimum 2.3.0 optimum/commands/optimum_cli.py.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from sprint_export.cli.optimum_arguments import add_arguments, run_command


class SprintExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum ships no types
    """`sprint-export`, spelt as optimum's other exporters are."""

    COMMAND = CommandInfo(name="sprint", help="Export one-step text-to-image students, quantized and checked (sprint-export).")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the options."""
        add_arguments(parser)

    def run(self) -> None:
        """Make the bundle and leave with sprint-export's exit status."""
        sys.exit(run_command(vars(self.args)))


REGISTER_COMMANDS = [(SprintExportCommand, ExportCommand)]
