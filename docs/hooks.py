"""What MkDocs does beside rendering: the reference is written from the code at each build.

Nothing of it is kept in git, so it cannot say what the code does not.
"""

import sys
from pathlib import Path

import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from sources import class_source

ROOT = Path(__file__).parent.parent
_INCLUDE = "<!-- include: "


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages below `reference/`, written from this checkout."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    for name, write in reference_pages.PAGES.items():
        page = File.generated(config, f"reference/{name}.md", content=write())
        files.append(page)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace each line `<!-- include: PATH [NAME] -->` by that file, or by a class of it."""
    lines = (_included(line, page) for line in markdown.split("\n"))
    return "\n".join(lines)


def _included(line: str, page: Page) -> str:
    if not line.startswith(_INCLUDE):
        return line
    path, *name = line.removeprefix(_INCLUDE).removesuffix("-->").split()
    file = ROOT / path
    if not file.is_file():
        raise PluginError(f"{page.file.src_uri} includes {path}, which is not there.")
    source = file.read_text(encoding="utf-8")
    text = class_source(source, name[0]) if name else source
    return f"```{file.suffix.removeprefix('.')}\n{text.rstrip()}\n```"
