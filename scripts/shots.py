"""Screenshots of every page of the site: wide and narrow, light and dark, full height.

    python scripts/shots.py OUT                    build the site, then take all screenshots
    python scripts/shots.py OUT --site site        use a site that is already built
    python scripts/shots.py OUT --pages learn      only pages whose address contains "learn"

Writes OUT/learn_01_topic.wide.light.png and so on. Needs Chromium on the PATH.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browser import Browser, find_chromium, served, site_pages

from engram_ref.files import write_whole

WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = {"light": "default", "dark": "slate"}    # names in the theme
OPEN = "document.querySelectorAll('details').forEach(d => d.open = true)"
STILL = "document.head.insertAdjacentHTML('beforeend', '<style>* { transition: none !important }</style>')"
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    options = arguments()
    if find_chromium() is None:
        return fail("Chromium is not on the PATH; install the package chromium")
    with tempfile.TemporaryDirectory() as folder:
        site = options.site or build(Path(folder))
        if site is None or not (site / "index.html").exists():
            return fail(f"{site or 'the build'}: not a built site; run 'mkdocs build' or omit --site")
        pages = [page for page in site_pages(site) if options.pages in page and page != "404.html"]
        if not pages:
            return fail(f"--pages: no page address contains '{options.pages}'")
        options.out.mkdir(parents=True, exist_ok=True)
        take_all(site, pages, options.out)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the screenshots")
    parser.add_argument("--site", type=Path, help="a built site (default: build it first)")
    parser.add_argument("--pages", default="", metavar="TEXT", help="only pages whose address contains TEXT")
    return parser.parse_args()


def build(folder: Path) -> Path | None:
    """Build the site into a folder; None if mkdocs fails, after printing its message."""
    print("building the site ...", flush=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    return folder if subprocess.run(command, cwd=ROOT).returncode == 0 else None


def take_all(site: Path, pages: list[str], out: Path) -> None:
    started = time.monotonic()
    with served(site) as origin, Browser() as browser:
        for number, page in enumerate(pages, start=1):
            for size, width in WIDTHS.items():
                for scheme in SCHEMES:
                    name = page.strip("/").replace("/", "_").removesuffix(".html") or "index"
                    write_whole(out / f"{name}.{size}.{scheme}.png", shot(browser, f"{origin}/{page}", width, scheme))
            print(f"[{number}/{len(pages)}] /{page}  4 screenshots, {time.monotonic() - started:.0f} s", flush=True)


def shot(browser: Browser, url: str, width: int, scheme: str) -> bytes:
    """Take one screenshot with all collapsible sections open."""
    browser.resize(width)
    browser.open(url)
    browser.evaluate(STILL)
    browser.evaluate(OPEN)
    browser.evaluate(f"document.querySelector('input[data-md-color-scheme={SCHEMES[scheme]}]').click()")
    browser.wait_for(f"document.body.dataset.mdColorScheme === '{SCHEMES[scheme]}'")
    return browser.picture()


def fail(text: str) -> int:
    print(f"shots: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError) as error:
        sys.exit(fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
