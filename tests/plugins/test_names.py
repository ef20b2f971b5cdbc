"""A plugin has one name, whichever way it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry

if TYPE_CHECKING:
    from pathlib import Path


def _loaded(**settings: Any) -> list[str]:
    return [info.name for info in App(registry=Registry(), **settings).plugins]


@pytest.fixture(autouse=True)
def _distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with a module that is a plugin, called `shop`, and a module that does not say so."""
    plugin = "from pgtasks.plugins import hookimpl\n\n@hookimpl\ndef job_failed():\n    pass\n"
    (tmp_path / "named_shop.py").write_text(f'{plugin}\nname = "shop"\n')
    (tmp_path / "nameless.py").write_text(plugin)
    metadata = tmp_path / "named_shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: named-shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[pgtasks]\nshop = named_shop\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_module_may_say_what_it_is_called() -> None:
    assert _loaded(autoload_plugins=False, plugins=["named_shop"]) == ["shop"]
    assert _loaded(autoload_plugins=False, plugins=["nameless"]) == ["nameless"]


def test_a_plugin_that_is_installed_and_named_by_its_module_is_loaded_once() -> None:
    assert _loaded() == ["shop"]
    assert _loaded(plugins=["named_shop", "shop"]) == ["shop"]
    assert _loaded(autoload_plugins=False, plugins=["named_shop", "shop"]) == ["shop"]


def test_a_plugin_can_be_left_out_and_required_by_its_name() -> None:
    assert _loaded(plugins=["named_shop", "no:shop"]) == []
    assert _loaded(autoload_plugins=False, plugins=["named_shop"], required_plugins=["shop"]) == ["shop"]
