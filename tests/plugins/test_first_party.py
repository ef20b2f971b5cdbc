"""The first-party plugins use nothing but the public API, and are packages like anybody's."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "plugins"
PACKAGES = sorted(FOLDER.glob("pgtasks-*"))
PUBLIC = {"pgtasks", "pgtasks.plugins"}
PAGE = FOLDER.parent / "docs/reference/first-party-plugins.md"


def name_of(package: Path) -> str:
    return package.name.removeprefix("pgtasks-")


def imports(package: Path) -> set[str]:
    """The modules of pgtasks that a package imports."""
    found = set()
    for file in (package / f"pgtasks_{name_of(package)}").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return {module for module in found if module.split(".")[0] == "pgtasks"}


def test_there_are_those_that_the_page_names() -> None:
    text = PAGE.read_text("utf-8")
    assert {package.name for package in PACKAGES} == {word for word in text.split("`") if word.startswith("pgtasks-")}


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_it_imports_public_names_only(package: Path) -> None:
    assert imports(package) <= PUBLIC


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_it_is_a_package_with_an_entry_point_types_a_readme_and_a_licence(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == package.name
    assert list(project["entry-points"]["pgtasks"]) == [name_of(package)]
    assert (package / f"pgtasks_{name_of(package)}" / "py.typed").exists()
    assert (package / "README.md").read_text("utf-8").startswith(f"# {package.name}\n")
    assert project["license"] == "MIT"
    assert (package / "LICENSE").exists()
    assert list((package / "tests").glob("test_*.py"))
