"""The documentation says what is so: its code runs, its links lead somewhere, and it leaves nothing out."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, get_args

import click
import pytest

import pgtasks
import pgtasks.testing.plugin
from pgtasks.cli import pgtasks as command_line
from pgtasks.queue.doctor import FindingName
from tests.docs.pages import DOCS, PAGES, ROOT, RUN, anchors, blocks, links, name_of, steps

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

EMBEDDED = {"README.md", "docs/tutorial/first-steps.md"}
"""Pages whose readers have configured no database."""

COMMANDS = DOCS / "reference" / "commands.md"
DECISIONS = DOCS / "decisions"


def _with_steps(*, embedded: bool) -> list[str]:
    names = [name_of(page) for page in PAGES if steps(page.read_text())]
    return [name for name in names if (name in EMBEDDED) is embedded]


LONG = pytest.mark.timeout(600)
"""A page is many commands; on a machine that is busy with other tests each takes its time, and has its own limit."""


@LONG
@pytest.mark.parametrize("name", _with_steps(embedded=False))
def test_a_page_does_what_it_shows(name: str, database: str, run_text: Run) -> None:
    done = run_text((ROOT / name).read_text(), name, database)
    assert done.returncode == 0, done.stderr


@LONG
@pytest.mark.parametrize("name", _with_steps(embedded=True))
def test_a_page_does_what_it_shows_where_no_database_is_configured(name: str, run_text: Run) -> None:
    done = run_text((ROOT / name).read_text(), name)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name_of(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(found.read_text()), f"{name_of(page)} links to {target}, which has no such heading"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_every_public_name_is_on_a_reference_page() -> None:
    text = (DOCS / "reference" / "python.md").read_text()
    shown = set(re.findall(r"^::: pgtasks\.(\w+)$", text, flags=re.MULTILINE))
    assert shown == set(pgtasks.__all__) - {"__version__"}
    assert "`pgtasks.__version__`" in text


def test_every_tool_for_tests_is_on_its_page() -> None:
    text = (DOCS / "reference" / "testing.md").read_text()
    assert set(re.findall(r"^::: pgtasks\.testing\.(\w+)$", text, flags=re.MULTILINE)) == set(pgtasks.testing.__all__)
    fixtures = re.findall(r"^@pytest\.fixture.*\ndef (\w+)", inspect.getsource(pgtasks.testing.plugin), re.MULTILINE)
    assert re.findall(r"^\| `(pgtasks_\w+)`", text, flags=re.MULTILINE) == fixtures


def test_every_command_has_a_section() -> None:
    sections = re.findall(r"^## pgtasks (.+)$", COMMANDS.read_text(), flags=re.MULTILINE)
    assert sections == [name for name, _ in _commands()]


def test_every_option_of_a_command_is_in_its_section() -> None:
    sections = re.split(r"^## ", COMMANDS.read_text(), flags=re.MULTILINE)
    sections = [section for section in sections if section.startswith("pgtasks ")]
    for section, (name, command) in zip(sections, _commands(), strict=True):
        options = {
            option
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        }
        shown = set(re.findall(r"`(--[\w-]+)", section))
        assert shown == options, f"pgtasks {name}"


def test_every_setting_with_an_option_is_named_beside_it() -> None:
    text = COMMANDS.read_text()
    for _, command in _commands():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name in pgtasks.Settings.names():
                row = re.search(rf"^\| `{parameter.opts[0]}.*$", text, flags=re.MULTILINE)
                assert row is not None, parameter.opts[0]
                assert f"`{parameter.name}`" in row[0], row[0]


def test_every_public_sql_function_is_on_its_page() -> None:
    text = (DOCS / "reference" / "sql.md").read_text()
    public = {path.stem for path in (ROOT / "pgtasks/sql/functions").glob("[!_]*.sql")}
    assert set(re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)) == public


def test_every_finding_of_the_doctor_is_explained() -> None:
    text = (DOCS / "how-to" / "doctor.md").read_text()
    shown = re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)
    assert sorted(shown) == sorted(get_args(FindingName))


def test_every_decision_is_in_the_index() -> None:
    pages = {page.name for page in DECISIONS.glob("[0-9]*.md")}
    assert set(links((DECISIONS / "README.md").read_text())) >= pages


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[0-9]*.md")), ids=name_of)
def test_a_decision_says_why_what_and_what_follows(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_is_of_a_language_that_could_be(page: Path) -> None:
    for block in blocks(page.read_text()):
        assert block.reason is None or block.language in RUN, f"{name_of(page)}:{block.line}"
        assert block.language, f"{name_of(page)}:{block.line}: say `text` where it is no code"


def test_no_file_points_at_a_place_that_a_reader_does_not_have() -> None:
    # Somebody's home directory in the documentation, or a number in some list of issues anywhere.
    home = re.compile(r"(?<![\w.])/(?:root|home|Users)/")
    number = re.compile(r"\b(?:issues?|pull request|PR|GH)[ /-]?#?\d+|\(#\d+\)", flags=re.IGNORECASE)
    for file in _sources():
        text = file.read_text()
        assert not number.search(text), f"{name_of(file)} names an issue"
        if file.suffix == ".md":
            assert not home.search(text), f"{name_of(file)} names a home directory"


def _commands(group: click.Group = command_line) -> Iterator[tuple[str, click.Command]]:
    """Give every command but groups that do nothing by themselves, with its name as it is written after `pgtasks`."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            if command.params:  # it does something by itself
                yield name, command
            yield from ((f"{name} {below}", found) for below, found in _commands(command))
        else:
            yield name, command


def _sources() -> Iterator[Path]:
    for top in ("pgtasks", "plugins", "examples", "benchmarks", "docs", "tests"):
        for path in (ROOT / top).rglob("*"):
            if path.suffix in {".md", ".py", ".sql", ".toml", ".txt", ".yml"}:
                yield path
    yield from ROOT.glob("*.md")
    yield from (ROOT / name for name in ("Makefile", "mkdocs.yml", "pyproject.toml"))
