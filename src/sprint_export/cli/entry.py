"""The command's entry: streams and signals first, then the app (app.py); every end is one line and an exit status.

Exit status: 0 done and gates met; 1 a gate not met or not decided (the bundle is kept); 2 wrong or refused input; 3 the machine
lacks something; 130 and 143 after Ctrl-C and SIGTERM; 141 where the reader of the results went away. Progress and notes go to
stderr, results to stdout, `--json` for programs. Only the standard library is imported here, so that a Ctrl-C is heard early.
"""

from __future__ import annotations

import os
import sys

from sprint_export import interrupts

TYPE_CHECKING = False  # typing's own would load it, before the command hears a Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Sequence

RESERVE = 4_000_000  # bytes
MACHINE = 3  # errors.MachineError.exit_status


def main() -> None:
    """Entry point of the console script; leaves with the exit status."""
    interrupts.listen()
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the app on these arguments, by default the process's own, and give its exit status.

    A user's mistake or what the machine lacks is one line on stderr, never a traceback.
    """
    reserve = bytearray(RESERVE)  # given back when memory runs short: saying so takes some
    try:
        from sprint_export import (
            clear_errors,  # noqa: F401  where memory runs short, nothing more can be imported
            streams,
        )

        streams.prepare_streams()
        streams.use_utf8()
        status = call_app(arguments)
        sys.stdout.flush()
    except SystemExit as leaving:  # completion scripts, a reader that went away
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        reserve.clear()
        if interrupts.stopped_by() is None and not isinstance(error, KeyboardInterrupt):
            return say_failure(error)
        status = interrupts.exit_status()
    if interrupts.stopped_by() is not None or status == interrupts.exit_status():
        interrupts.say_stopped()
        return interrupts.exit_status()
    return status


def call_app(arguments: Sequence[str] | None = None) -> int:
    """The app's exit status; its results are on their way when this returns."""
    from sprint_export.cli.app import app

    # what a typer.Exit or Ctrl-C left with comes back as a value, else None
    status = app(arguments, prog_name="sprint-export", standalone_mode=False)
    return status if isinstance(status, int) else 0


def say_failure(error: BaseException) -> int:
    """Say an error in one line; what is no error of ours, of the command line or of the machine is raised again."""
    try:
        from sprint_export.clear_errors import explain_error
        from sprint_export.streams import say_error

        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's copy of click has no public name
            text = error.format_message().rstrip(".")
            command = getattr(getattr(error, "ctx", None), "command_path", "sprint-export")
            say_error(f"error: {text}{'' if text.endswith('?') else '.'} See: {command} --help")
            return int(error.exit_code)
        known = explain_error(error)
        if known is not None:
            _show_origin(error)
            say_error(f"error: {known}")
            return known.exit_status
    except MemoryError:
        os.write(2, b"error: memory ran short; end other programs or raise the limit, and run the same command again\n")
        return MACHINE
    raise error


def _show_origin(error: BaseException) -> None:
    """The traceback behind an error, where --verbose asks for it."""
    screen = sys.modules.get("sprint_export.cli.screen")
    if screen is not None and screen.verbosity.is_verbose:
        import traceback

        traceback.print_exception(error)


if __name__ == "__main__":
    main()
