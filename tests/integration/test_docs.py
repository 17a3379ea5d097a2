"""The documentation: it builds, says what the code says, and needs nobody from outside."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from ebbtide.adapters.system.file import SystemFile
from ebbtide.core import errors
from ebbtide.entrypoints.cli.changing import EXIT
from ebbtide.entrypoints.cli.main import app
from flows.levels import STEPS

ROOT = Path(__file__).parents[2]
COMMANDS: Any = typer.main.get_command(app)
_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FROM_CSS = re.compile(r"""(?:url\(|@import\s+)\s*['"]?([^'")\s]+)""")


class Page(HTMLParser):
    """What a built page loads by itself, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.loads += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]
        if tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given["href"])
        self.loads += _FROM_CSS.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a broken link or anchor ends the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def text_of(site: Path, page: str) -> str:
    return Page(site / page).text


def test_a_broken_link_or_anchor_ends_the_build(tmp_path: Path) -> None:
    for link in ("nowhere.md", "page.md#nowhere"):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs/index.md").write_text(f"# A\n\n[to B]({link})\n")
        (tmp_path / "docs/page.md").write_text("# B\n")
        ours = (ROOT / "mkdocs.yml").read_text()
        validation = ours[ours.index("validation:") : ours.index("\nnav:")]
        (tmp_path / "mkdocs.yml").write_text(f"site_name: test\n{validation}\n")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
        built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert built.returncode != 0 and "nowhere" in built.stderr


def test_no_page_loads_anything_from_outside(site: Path) -> None:
    outside = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
    loaded = {
        page.name: [place for place in Page(page).loads if outside.match(place)]
        for page in site.rglob("*.html")
    }
    loaded |= {
        sheet.name: [each for each in _FROM_CSS.findall(sheet.read_text()) if outside.match(each)]
        for sheet in site.rglob("*.css")
    }
    assert len(loaded) > 20
    assert {page: places for page, places in loaded.items() if places} == {}


def test_every_page_is_found_from_the_first(site: Path) -> None:
    links = re.findall(r'<a class="reference internal[^"]*" href="([^"#]+)', _first(site))
    reached = {(site / link).resolve() for link in links if "://" not in link}
    pages = {page.resolve() for page in site.rglob("*.html")}
    assert pages - reached <= {site / "404.html", site / "search.html", site / "index.html"}


def test_every_step_is_told_with_its_words(site: Path) -> None:
    text = text_of(site, "reference/steps.html")
    assert [row.name for row in STEPS if row.name not in text] == []
    assert "Compare-and-set the route to the target, with a new epoch." in text


def test_every_command_and_option_is_told(site: Path) -> None:
    text = text_of(site, "reference/cli.html")
    for name, command in COMMANDS.commands.items():
        assert f"ebbtide {name}" in text
        assert (command.help or "").partition("\n")[0] in text
        missing = [opt for param in command.params for opt in param.opts if opt not in text]
        assert missing == [] or not any(opt.startswith("--") for opt in missing)


def test_every_exit_code_is_told(site: Path) -> None:
    page = (site / "reference/exit-codes.html").read_text()
    told = {int(code) for code in re.findall(r"<tr>\s*<td>(\d+)</td>", page)}
    faults = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.exit_code for each in faults if issubclass(each, errors.EbbtideError)}
    assert told >= codes | set(EXIT.values()) | {130}
    assert all(code in told for code in _codes_in_the_readme())


def test_every_key_of_a_system_file_is_told(site: Path) -> None:
    page = (site / "reference/configuration.html").read_text()
    missing = [key for key in _keys(SystemFile) if f"<code>{key}</code>" not in page]
    assert missing == []


def test_every_deployment_and_metric_is_told(site: Path) -> None:
    deployed = re.findall(r"^  - name: (\S+)", (ROOT / "prefect.yaml").read_text(), re.MULTILINE)
    text = text_of(site, "reference/prefect.html")
    assert deployed and [name for name in deployed if name not in text] == []
    metrics = text_of(site, "reference/metrics.html")
    for name in ("ebbtide_requests_total", "ebbtide_request_seconds", "ebbtide_epoch"):
        assert name in metrics


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    """Each is parsed by the very command line; nothing is run."""
    for line in _commands(page.read_text(encoding="utf-8")):
        words = line[1:]
        if words and not words[0].startswith("-") and words[0] != "COMMAND":
            command = COMMANDS.commands.get(words[0])
            assert command is not None, f"no command `{words[0]}`"
            if not {"-h", "--help"} & set(words):
                command.make_context(words[0], words[1:])


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_parts_of_a_system_file_that_a_page_shows_are_valid(page: Path) -> None:
    for block in _YAML.findall(page.read_text(encoding="utf-8")):
        whole = {"system": "shown", "mlflow": {"tracking_uri": "sqlite:///mlflow.db"}, "layers": {}}
        SystemFile.model_validate(whole | yaml.safe_load(block))


def _first(site: Path) -> str:
    return (site / "index.html").read_text(encoding="utf-8")


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for inner in _models(field.annotation):
            yield from _keys(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _codes_in_the_readme() -> set[int]:
    return {int(code) for code in re.findall(r"^\| (\d+) \|", _PAGES[0].read_text(), re.MULTILINE)}


def _commands(markdown: str) -> Iterator[list[str]]:
    """Every call of ebbtide in the shell blocks of a page, as words."""
    for block in _BLOCK.findall(markdown):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(?:\$ )?ebbtide\b", line):
                yield shlex.split(line.replace("$ ", "", 1), comments=True)
