"""Print, as JSON, the part of a kit's README that describes its format, for the page docs/oracle/kit.md.

    python kit.py        ->  {"kit": "## The files ..."}
"""

import json

from engram_ref import __version__
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.kit.readme import RESULTS, readme


def format_text() -> str:
    """Return the sections of README.md from the files to the generated inputs."""
    manifest = {"engram_ref": __version__, "dialect": "", "cases": [], "groups": {}, "flags": FLAGS, "results": RESULTS}
    text = readme(manifest).decode()
    return text[text.index("## The files") : text.index("## Groups")]


if __name__ == "__main__":
    print(json.dumps({"kit": format_text()}))
