"""The entry point of the command line: standard streams, Ctrl-C and exit codes.

Exit codes: 0 success, 1 a comparison failed, 2 bad usage or input or an output that cannot be written (one line on
standard error), 130 interrupted.

Everything slow is imported inside `main`, where Ctrl-C is handled.
"""

import os
import sys

from engram_ref.cli.streams import discard, fail, reserve_closed, say

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    argv   the arguments; None: this process is the command and has them, and its streams and signals are set up
    """
    if argv is None:
        return own_process()
    try:
        return outcome(argv)
    except KeyboardInterrupt:
        say("")
        return INTERRUPTED


def own_process() -> int:
    """The command as a process of its own, which Ctrl-C ends at any moment."""
    try:
        import signal

        handle_interrupts()
        reserve_closed()
        code = outcome(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        end_interrupted()
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # the work is done and written: Ctrl-C comes too late
    return code


def outcome(argv: list[str]) -> int:
    """The exit code of a command, or SystemExit after a line that says what is wrong."""
    from engram_ref.errors import InputError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")       # for a letter that the encoding lacks
    try:
        from engram_ref.cli import commands

        code = commands.run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except InputError as error:
        fail(str(error))
    except BrokenPipeError:                             # the reader, such as `head`, has seen enough
        discard(sys.stdout)
        return 0
    except OSError as error:                            # a full disk, a closed stream, a terminal that is gone
        if error.filename is None:
            discard(sys.stdout)
        fail(f"{error.filename or 'standard output'}: {error.strerror}")
    except ImportError as error:
        fail(f"the import of {error.name or 'a package'} failed: {error}")
    except MemoryError as error:
        fail(f"out of memory: {error}")


def handle_interrupts() -> None:
    """Make Ctrl-C raise KeyboardInterrupt where that unwinds, and end the process at once where it would not.

    An import may swallow the exception or make another of it, NumPy's for one. So may a __del__, and a second Ctrl-C
    means that the first one did not work.
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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:     # a shell may have it ignored
        signal.signal(signal.SIGINT, interrupt)


def end_interrupted() -> None:
    """End this process at once: sys.exit would wait for threads that compile or compute."""
    say("")                                             # the prompt starts on a line of its own
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
