"""The benchmark, from a clone: the same as `engram-ref bench`, with the rivals of baselines.py beside this file.

    python scripts/bench.py --quick
    python scripts/bench.py --only P1,P7 --out result.json --plot result.svg
"""

import sys

from engram_ref.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
