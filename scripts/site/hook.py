"""The mkdocs hook: runs the tutorials, adds the generated pages, inserts formulas and figures.

A percent script in docs/ is rendered like a tutorial and becomes a page at its own path.

Only this file depends on mkdocs, so a different site generator would need changes only here.

In the navigation of mkdocs.yml, an entry `folder/*` denotes all pages of that folder: generated
pages first, then those of docs/ by name. A section without pages is omitted.
"""

import os
from pathlib import Path

import diagrams
import equations
import inserts
import percent
import reference
import structure
import tutorial
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WHERE = os.environ.get("ENGRAM_TUTORIALS", str(ROOT / "tutorials"))        # tests set other folders
FOLDERS = [Path(folder) for folder in WHERE.split(os.pathsep)]
CACHE = ROOT / ".cache" / "tutorials"
DATA = {"paper/figures.json": ROOT / "engram_ref" / "data" / "paper-figures.json",
        **{f"performance/results/{file.name}": file for file in (ROOT / "engram_ref/bench/results").rglob("*.json")}}

built: dict = {}        # this build: {"pages": {path: Markdown}, "figures": {key: ...}, "scripts": [...], "nav": {...},
                        #              "assets": {path: text}, "marks": {name: HTML}, "kit": ..., "bugs": ...}


def on_config(config):
    """Generate the pages before any file is read, so that they can be listed in the navigation."""
    # Run the scripts and read the package.
    tutorials = [script for folder in FOLDERS for script in sorted(folder.glob("[0-9]*.py"))]
    scripts = tutorials + tutorial.scripts_in(DOCS)
    try:
        results = tutorial.run_all(scripts, CACHE)
        performance = reference.ask_package("performance.py")
        reference_pages = {**reference.value_pages(), **performance.get("pages", {}), **reference.api_pages()}
        explorable, kit = reference.ask_package("explorable.py"), reference.ask_package("kit.py")
        specification = reference.ask_package("specification.py").get("pages", {})
        bugs, matrix = reference.ask_package("bugs.py"), reference.ask_package("matrix.py")
    except (tutorial.TutorialError, RuntimeError) as error:
        raise PluginError(str(error)) from None
    # Convert the results to pages and figures.
    pages, figures = {}, {**performance.get("figures", {}), **matrix.get("figures", {})}
    for script, result in zip(scripts, results, strict=True):
        pages[page_of(script)], drawn = tutorial.to_markdown(script, result)
        figures.update(drawn)
    # List the pages in the navigation.
    nav = {"specification": specification_nav(specification), "reference": reference.navigation(reference_pages)}
    for script in scripts:
        title = percent.title(percent.read_cells(script), script)
        nav.setdefault(page_of(script).rpartition("/")[0], []).append({title: page_of(script)})
    nav["oracle"] = nav.get("oracle", []) + list(matrix.get("pages", {}))
    built.update(pages={**pages, **specification, **matrix.get("pages", {}), **reference_pages}, figures=figures,
                 scripts=scripts, nav=nav, **explorable, **kit, **bugs)
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    return config


def specification_nav(pages: dict[str, str]) -> list:
    """The pages of the specification, without the word that is the section's title."""
    titles = [text.split("\n", 1)[0].removeprefix("# ").removeprefix("Specification: ") for text in pages.values()]
    return [{title[0].upper() + title[1:]: path} for title, path in zip(titles, pages, strict=True)]


def page_of(script: Path) -> str:
    """The path of a script's page, relative to docs/: next to a script in docs/, else in learn/."""
    inside = script.is_relative_to(DOCS)
    return script.relative_to(DOCS).with_suffix(".md").as_posix() if inside else f"learn/{script.stem}.md"


def _expanded(nav: list, docs: Path) -> list:
    """The navigation with every `folder/*` expanded."""
    full = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("/*"):
            folder = entry[:-2]
            written = sorted(p.relative_to(docs).as_posix() for p in (docs / folder).glob("*.md"))
            full += built["nav"].get(folder, []) + written
        elif isinstance(entry, dict) and isinstance(next(iter(entry.values())), list):
            [(title, children)] = entry.items()
            children = _expanded(children, docs)
            full += [{title: children}] if children else []
        else:
            full.append(entry)
    return full


def on_files(files, config):
    """Add the files that are not in docs/: pages, scripts and data for download, diagrams."""
    for path, text in built["pages"].items():
        files.append(File.generated(config, path, content=text))
    for path, text in built.get("assets", {}).items():
        files.append(File.generated(config, path, content=text))
    for path, source in DATA.items():
        files.append(File.generated(config, path, abs_src_path=str(source)))
    for script in built["scripts"]:
        if not script.is_relative_to(DOCS):             # scripts in docs/ are among the files already
            files.append(File.generated(config, f"learn/{script.name}", abs_src_path=str(script)))
    for name in diagrams.names():
        files.append(File.generated(config, f"assets/diagrams/{name}.svg", content=diagrams.draw(name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Insert tables of modules, ops files and bugs, and the format of a kit, as Markdown: mkdocs checks the links."""
    made = {"modules": structure.modules_table, "reading order": structure.reading_tables}
    made |= {name: lambda name=name: built.get(name, "") for name in ("kit", "bugs", "bugs left out")}
    for name, table in made.items():
        mark = f"{{{{ {name} }}}}"
        if mark in markdown:                            # reading the package takes a second
            markdown = markdown.replace(mark, table())
    return markdown


def on_page_content(html, page, config, files):
    """Replace marks in the finished HTML with figures, diagrams and formulas."""
    try:
        for name, text in built.get("marks", {}).items():
            html = html.replace(f"<p>{{{{ {name} }}}}</p>", text)
        return equations.replace_formulas(inserts.replace_inserts(html, built["figures"]))
    except (equations.FormulaError, inserts.InsertError) as error:
        raise PluginError(f"{_location(page, getattr(error, 'latex', ''))}: {error}") from None


def _location(page, words: str) -> str:
    """`file:line` of this text in the page's source file."""
    scripts = {page_of(script): script for script in built["scripts"]}
    file = scripts.get(page.file.src_uri, DOCS / page.file.src_uri)
    text = file.read_text(encoding="utf-8") if words and file.exists() else ""
    start = text.find(words.split("\n")[0])
    line = text.count("\n", 0, start) + 1 if start >= 0 else 1
    return f"{tutorial.short(file)}:{line}"


def on_serve(server, config, builder):
    """Make `mkdocs serve` rebuild when the code or a tutorial changes."""
    for folder in (ROOT / "engram_ref", ROOT / "scripts" / "site", *FOLDERS):
        if folder.exists():
            server.watch(str(folder), builder)
    return server
