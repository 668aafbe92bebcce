"""python -m engram_ref: the same as the command engram-ref."""

import sys

from engram_ref.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
