"""Run the command engram-ref as python -m engram_ref."""

import sys

from engram_ref.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
