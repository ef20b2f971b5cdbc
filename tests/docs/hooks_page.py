"""docs/reference/hooks.md, made of the hook contract: `python -m tests.docs.hooks_page` writes it."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Final

from pgtasks import hookspecs
from pgtasks.hookspecs import HOOKS, Hook
from tests.docs.pages import DOCS

PAGE: Final = DOCS / "reference" / "hooks.md"

_HEAD: Final = """# Hooks

Every hook that a plugin may implement: its signature, its kind, and where it is called. `pgtasks plugins hooks` shows
the same. [Plugins](../explanation/plugins.md) tells
in which order hooks are called, and what becomes of what plugins do wrong.

- **collect**: all implementations are called, and their answers are joined.
- **observe**: told and not asked, in a thread of the plugin's own, in order, after the fact.
- **decide**: asked one after the other until one answers something other than None.
- **change**: a value goes through all of them; each may answer another one.
- **wrap**: a context manager round the job, entered in the job's own thread or task.

An *isolated* hook cannot do harm: what an implementation raises, or answers that it must not, is logged with its name,
and the others are called. The error of one that is not isolated is the caller's.

A function takes those of the arguments that it needs. The types are those of `pgtasks`, `pgtasks.plugins` and the
standard library.
"""


def make() -> str:
    """Return what the page should be."""
    parts = [_HEAD]
    section = ""
    for hook in HOOKS.values():
        title = _section(hook)
        if title != section:
            parts.append(f"## {title}\n")
            section = title
        parts.append(_entry(hook))
    return "\n".join(parts)


def signature(hook: Hook) -> str:
    """Return a hook's signature as it stands in the contract."""
    source = inspect.getsource(getattr(hookspecs, hook.name))
    found = re.search(rf"def {hook.name}\(.*?\) -> .*?:(?=\s|$)", source, flags=re.DOTALL | re.MULTILINE)
    assert found is not None
    return " ".join(found[0].removesuffix(":").split())


def _section(hook: Hook) -> str:
    """The heading in the contract that the hook stands under."""
    source = inspect.getsource(hookspecs)
    before = source[: source.index(f"def {hook.name}(")]
    titles: list[str] = re.findall(r"^# ([A-Z].*)$", before, flags=re.MULTILINE)
    return titles[-1]


def _entry(hook: Hook) -> str:
    documentation = inspect.getdoc(getattr(hookspecs, hook.name)) or ""
    text, _, example = documentation.partition("\nExample:\n")
    where = ", ".join(role.value for role in hook.roles) if len(hook.roles) < 4 else "all"
    calls = "plain or `async def`" if hook.asynchronous else "plain only"
    isolation = "isolated" if hook.isolated else "not isolated"
    lines = [
        f"### {hook.name}",
        "",
        f"<!-- not run: a declaration -->\n```python\n{signature(hook)}\n```",
        "",
        " · ".join([f"*{hook.kind.value}*", f"processes: {where}", calls, isolation]),
        "",
        text.strip(),
        "",
        f"<!-- not run: part of a plugin -->\n```python\n{textwrap.dedent(example).strip()}\n```",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(make(), "utf-8")
