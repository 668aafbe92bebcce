"""The argument parser of all commands; each command has a separate file."""

import argparse
from typing import NoReturn, TextIO

from engram_ref import __version__
from engram_ref.cli import bench, check, count, doctor, ids, kit, presets, sample, train, verify, walk
from engram_ref.cli.streams import fail
from engram_ref.cli.terminal import width
from engram_ref.errors import InputError, check_name

COMMANDS = {"walk": walk, "train": train, "sample": sample, "ids": ids, "presets": presets, "count": count,
            "verify": verify, "kit": kit, "check": check, "bench": bench, "doctor": doctor}
REPLACED = {"golden": ("verify or kit", "golden verify is now verify, and golden export DIR is now kit DIR")}
"""Earlier command -> those that replace it, and how."""

EXIT_CODES = """exit codes: 0 success, 1 failed comparison, 2 invalid usage, invalid input or unwritable output (one
line on standard error), 130 interrupted"""


class OneLineParser(argparse.ArgumentParser):
    """Print argument errors on one line, like all other errors, and help at the same width as other output."""

    def __init__(self, *arguments: object, **more: object):
        super().__init__(*arguments, formatter_class=lambda prog: argparse.HelpFormatter(prog, width=width()), **more)

    def error(self, message: str) -> NoReturn:
        fail(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        if file is not None:            # argparse's method ignores write errors
            file.write(message)
            file.flush()


def parser() -> argparse.ArgumentParser:
    """Build the parser; the reference page is generated from it."""
    top = OneLineParser(prog="engram-ref", description="The reference implementation of Engram, step by step.",
                        epilog=EXIT_CODES)
    top.add_argument("--version", action="version", version=f"engram-ref {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=OneLineParser)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        if hasattr(module, "arguments"):
            module.arguments(command)
        command.add_argument("--json", action="store_true", help="print JSON")
    return top


def run(argv: list[str]) -> int:
    """Parse the arguments, run the command and return its exit code."""
    if argv and argv[0] in REPLACED:
        raise InputError("command", REPLACED[argv[0]][0], repr(argv[0]), REPLACED[argv[0]][1])
    if argv and not argv[0].startswith("-"):
        check_name("command", argv[0], COMMANDS)
    options = parser().parse_args(argv)
    for name, value in vars(options).items():
        if value == [] and name != "text":                  # argparse parses --name=-- as an empty list
            raise InputError(f"--{name}", "a value", "'--'")
    return COMMANDS[options.command].run(options)
