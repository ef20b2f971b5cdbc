"""`pgtasks plugins new` makes the package of a plugin, or says why not."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_package_is_made_in_the_current_directory_and_told(tmp_path: Path) -> None:
    done = run("plugins", "new", "rate-limit", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:2] == ["made pgtasks-rate-limit; next:", "  cd pgtasks-rate-limit"]
    place = tmp_path / "pgtasks-rate-limit"
    files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert files == {
        ".gitignore",
        "README.md",
        "pgtasks_rate_limit/__init__.py",
        "pgtasks_rate_limit/py.typed",
        "pyproject.toml",
        "tests/conftest.py",
        "tests/jobs.py",
        "tests/test_plugin.py",
    }
    project = tomllib.loads((place / "pyproject.toml").read_text())["project"]
    assert project["name"] == "pgtasks-rate-limit"
    assert project["entry-points"] == {"pgtasks": {"rate-limit": "pgtasks_rate_limit:RateLimitPlugin"}}
    assert "PGTASKS_PLUGIN_RATE_LIMIT__IGNORE" in (place / "README.md").read_text()


def test_a_package_is_made_where_it_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "my plugins").mkdir()
    done = run("plugins", "new", "shop", "my plugins", cwd=tmp_path)
    assert "  cd 'my plugins/pgtasks-shop'" in done.out.splitlines()
    assert (tmp_path / "my plugins/pgtasks-shop/pgtasks_shop/__init__.py").is_file()
    done = run("plugins", "new", "shop", "elsewhere", cwd=tmp_path)
    assert done.code == 2
    assert "Directory 'elsewhere' does not exist" in done.error


def test_what_is_there_stays(tmp_path: Path) -> None:
    place = tmp_path / "pgtasks-shop"
    place.mkdir()
    (place / "mine").touch()
    done = run("plugins", "new", "shop", cwd=tmp_path)
    assert done.code == 2
    assert "pgtasks-shop exists already" in done.error
    assert [path.name for path in place.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "Rate_Limit",
            "'Rate_Limit' cannot be a plugin's name: write it with small letters, digits and single",
        ),
        ("Rate_Limit", "did you mean 'rate-limit'?"),
        ("a--b", "did you mean 'a-b'?"),
        ("x.y", "did you mean 'x-y'?"),
        ("../x", "did you mean 'x'?"),
        ("3d", "beginning with a letter"),
        ("naïve", "cannot be a plugin's name"),
        ("shop\n", "cannot be a plugin's name"),
        ("", "cannot be a plugin's name"),
        ("pgtasks-shop", "'pgtasks-shop' is what the distribution is called then, of a plugin 'shop'"),
        ("pgtasks_shop", "did you mean 'shop'?"),
        (41 * "a", "has 41 characters, and a plugin's name at most 40"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(name: str, words: str, tmp_path: Path) -> None:
    done = run("plugins", "new", name, cwd=tmp_path)
    assert done.code == 2
    assert words in done.error
    assert list(tmp_path.iterdir()) == []
