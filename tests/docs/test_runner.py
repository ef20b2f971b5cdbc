"""The runner notices when a page does not do what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.runner import WrongOutputError, compare

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("shown", ["one\ntwo", "…", "one\n…", "one\nt…", "…\ntwo"])
def test_output_that_is_right_passes(shown: str) -> None:
    compare(shown, "one\ntwo\n")


@pytest.mark.parametrize("shown", ["one", "two", "…\none", "one\nt", "one\ntwo\nthree", ""])
def test_output_that_is_wrong_fails(shown: str) -> None:
    with pytest.raises(WrongOutputError, match="the page shows"):
        compare(shown, "one\ntwo\n")


def test_what_python_prints_is_compared(run_text: Run) -> None:
    done = run_text('```python\nprint("one")\n```\n\n```text title="output"\ntwo\n```\n')
    assert done.returncode == 1
    assert "page.md:2: this block does not do what the page says" in done.stderr


def test_an_exception_fails_and_names_the_line_of_the_page(run_text: Run) -> None:
    done = run_text("Words.\n\n```python\none = 1\none.two\n```\n")
    assert done.returncode == 1
    assert 'File "page.md", line 5' in done.stderr
    assert "AttributeError" in done.stderr


def test_a_module_of_the_page_can_be_imported_and_shown_again(run_text: Run) -> None:
    page = "".join(
        f'```python title="mine.py"\nNUMBER = {number}\n```\n\n'
        f"```python\nfrom mine import NUMBER\nassert NUMBER == {number}\n```\n\n"
        for number in (1, 2)
    )
    done = run_text(page)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("shown", "code"),
    [("$ echo a\na\n$ echo b\n", 0), ("$ echo a\nb\n", 1), ("$ exit 3\n", 1), ("echo a\n", 1)],
)
def test_a_command_is_run_and_its_output_compared_where_it_is_shown(shown: str, code: int, run_text: Run) -> None:
    assert run_text(f"```console\n{shown}```\n").returncode == code


def test_a_command_that_is_shown_to_fail_has_to(run_text: Run) -> None:
    assert run_text("```console\n$ pgtasks wroker\npgtasks: error: …\n```\n").returncode == 0
    assert run_text("```console\n$ echo pgtasks: error: no\npgtasks: error: no\n```\n").returncode == 1


def test_control_c_is_pressed_once_the_output_above_it_was_seen(run_text: Run) -> None:
    command = "python -c 'import time; print(1, flush=True); time.sleep(60)'"
    assert "ended with exit code -2" in run_text(f"```console\n$ {command}\n…\n1\n^C\n…\n```\n").stderr


def test_rows_are_compared_without_their_alignment(database: str, run_text: Run) -> None:
    query = "```sql\nselect 1 as one, 'b' as letter;\n```\n"
    right = " one | letter\n-----+--------\n   1 | b\n(1 row)"
    assert run_text(f'{query}\n```text title="output"\n{right}\n```\n', "page.md", database).returncode == 0
    wrong = right.replace("b\n", "c\n")
    assert run_text(f'{query}\n```text title="output"\n{wrong}\n```\n', "page.md", database).returncode == 1


def test_a_statement_that_fails_has_to_be_shown_to(database: str, run_text: Run) -> None:
    query = "```sql\nselect 1 / 0;\n```\n"
    assert run_text(query, "page.md", database).returncode == 1
    shown = f'{query}\n```text title="output"\nERROR:  division by zero\n```\n'
    assert run_text(shown, "page.md", database).returncode == 0


def test_a_block_with_a_reason_is_not_run(run_text: Run) -> None:
    done = run_text("<!-- not run: it would fail -->\n```python\n1 / 0\n```\n")
    assert done.returncode == 0, done.stderr
