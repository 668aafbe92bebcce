"""The entry point of the command line: standard streams, Ctrl-C and exit codes.

Exit codes: 0 success, 1 failed comparison, 2 invalid usage, invalid input or unwritable output (one line on standard
error), 130 interrupted.

Slow imports happen inside functions, after the Ctrl-C handler is installed.
"""

import os
import sys
from importlib import import_module

from engram_ref.cli.streams import discard, fail, print_stderr, replace_closed

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    argv   the arguments; None: take them from sys.argv, and set up the streams and signals of this process
    """
    if argv is None:
        return run_as_process()
    try:
        return run_command(argv)
    except KeyboardInterrupt:
        print_stderr("")
        return INTERRUPTED


def run_as_process() -> int:
    """Run the command as the main program of this process, which Ctrl-C can end at any time."""
    try:
        import signal

        handle_interrupts()
        replace_closed()
        code = run_command(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        end_interrupted()
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # the output is complete: ignore Ctrl-C while exiting
    return code


def run_command(argv: list[str]) -> int:
    """Run a command and return its exit code; on an error, print one line and raise SystemExit."""
    from engram_ref.errors import InputError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")       # for characters outside the encoding
    try:
        import_module("numpy")              # first: the extension of ml_dtypes prints a traceback if NumPy is broken
        from engram_ref.cli import commands

        code = commands.run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except InputError as error:
        fail(str(error))
    except BrokenPipeError:                             # the reader, such as `head`, has closed the pipe
        discard(sys.stdout)
        return 0
    except OSError as error:                            # a full disk, a closed stream, a closed terminal
        if error.filename is None:
            discard(sys.stdout)
        fail(f"{error.filename or 'standard output'}: {error.strerror}")
    except ImportError as error:
        fail(f"the import of {error.name or 'a package'} failed: {error}")
    except MemoryError as error:
        fail(f"out of memory: {error}")


def handle_interrupts() -> None:
    """Make Ctrl-C raise KeyboardInterrupt, or end the process at once where the exception could be lost.

    Imports (NumPy's, for example) may swallow or replace the exception, and so may __del__ methods. A second Ctrl-C
    also ends the process at once.
    """
    import signal

    def interrupt(_: int, frame: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                end_interrupted()
            frame = frame.f_back
        raise KeyboardInterrupt

    def unraisable(failure: object) -> None:
        if failure.exc_type is KeyboardInterrupt:
            end_interrupted()
        sys.__unraisablehook__(failure)

    sys.unraisablehook = unraisable
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:     # unless SIGINT is ignored by the shell
        signal.signal(signal.SIGINT, interrupt)


def end_interrupted() -> None:
    """End this process at once; sys.exit would wait for threads that compile or compute."""
    print_stderr("")                                             # start the prompt on a new line
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
