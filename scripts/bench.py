"""Run the benchmark from a clone: the same as `engram-ref bench`, with baselines.py from this folder.

    python scripts/bench.py --quick
    python scripts/bench.py --only rows-bulk,forward --out result.json --plot result.svg
"""

import sys

from engram_ref.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
