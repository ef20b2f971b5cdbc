"""The reference of hooks is what the contract says."""

from __future__ import annotations

import inspect
import re

import pytest

from pgtasks import hookspecs
from pgtasks.hookspecs import HOOKS
from tests.docs.hooks_page import PAGE, make, signature


def test_the_page_is_made_of_the_contract() -> None:
    assert PAGE.read_text("utf-8") == make(), "run `python -m tests.docs.hooks_page`"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature_and_an_example(name: str) -> None:
    section = re.search(rf"^### {name}$(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert section is not None
    assert signature(HOOKS[name]) in section[1]
    parameters = list(inspect.signature(getattr(hookspecs, name)).parameters)
    example = section[1].rpartition("```python")[2]
    assert re.search(rf"@hookimpl\n.*def {name}\(self", example, flags=re.DOTALL)
    taken = re.search(rf"def {name}\(self(?:, )?([^)]*)\)", example)
    assert taken is not None
    assert set(filter(None, taken[1].split(", "))) <= set(parameters), "the example takes what there is"
