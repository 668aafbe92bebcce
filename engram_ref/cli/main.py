"""The command line: engram-ref COMMAND. One file a command; this one joins them.

Exit codes: 0 success, 1 a comparison failed, 2 bad usage or input (one line on standard error),
130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from engram_ref import __version__
from engram_ref.cli import bench, count, doctor, golden, ids, presets, walk
from engram_ref.errors import InputError, unknown_name

COMMANDS = {"walk": walk, "ids": ids, "presets": presets, "count": count, "golden": golden, "bench": bench,
            "doctor": doctor}


class OneLineParser(argparse.ArgumentParser):
    """Argument errors as one line, like every other error here."""

    def error(self, message: str) -> NoReturn:
        fail(f"{message} (see {self.prog} --help)")


def fail(message: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    line = " ".join(f"engram-ref: {message}".split())
    print(line.encode(sys.stderr.encoding or "ascii", "backslashreplace").decode(sys.stderr.encoding or "ascii"),
          file=sys.stderr)
    raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """The whole command line; the reference page is made from it."""
    top = OneLineParser(prog="engram-ref", description="The reference implementation of Engram, step by step.")
    top.add_argument("--version", action="version", version=f"engram-ref {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=OneLineParser)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.arguments(command)
        command.add_argument("--json", action="store_true", help="print JSON, for programs")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 still gets every line
    try:
        if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
            raise unknown_name("command", argv[0], COMMANDS)
        options = parser().parse_args(argv)
        code = COMMANDS[options.command].run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except InputError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a terminal that is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"standard output: {error.strerror}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
