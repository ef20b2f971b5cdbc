"""Rules, as Python and the database read them, and the buckets that jobs need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgtasks.plugins import PluginError
from pgtasks.testing import make_job
from pgtasks_ratelimit.rules import Limit, Rules, parse_limit

if TYPE_CHECKING:
    from pgtasks import Job

RULES = {
    "100/s burst 20": Limit("x", 100, 1.0, 20),
    "10/minute": Limit("x", 10, 60.0, 1),
    " 10 /  MINUTES ": Limit("x", 10, 60.0, 1),
    "5/s": Limit("x", 5, 1.0, 2),
    "1/s": Limit("x", 1, 1.0, 1),
    "100/s": Limit("x", 100, 1.0, 20),
    "7 / 30 sec": Limit("x", 7, 30.0, 1),
    "3/2 hours burst 3": Limit("x", 3, 7200.0, 3),
    "1/d": Limit("x", 1, 86400.0, 1),
    "max 4 running": Limit("x", max_running=4),
    "100/s, max 4 running": Limit("x", 100, 1.0, 20, 4),
    "100/s burst 5 max 4 running": Limit("x", 100, 1.0, 5, 4),
    "unlimited": Limit("x"),
}
WRONG = [
    "",
    "fast",
    "100",
    "100/x",
    "0/s",
    "10/0s",
    "10/s burst 0",
    "max 0 running",
    "max 4",
    "10/s burst",
    "-1/s",
    "1.5/s",
]


def stored(conn: psycopg.Connection[Any], rule: str, name: str = "x") -> Limit:
    conn.execute("select graphile_worker.set_rate_limit(%s, %s)", (name, rule))
    query = "select name, tokens, period, burst, max_running from graphile_worker._pgtasks_ratelimit_limits"
    row = conn.execute(f"{query} where name = %s".encode(), (name,)).fetchone()
    assert row is not None
    return Limit(*row)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_read_as_it_is_meant(rule: str) -> None:
    assert parse_limit("x", rule) == RULES[rule]


def test_the_database_reads_rules_in_the_same_way(connection: psycopg.Connection[Any]) -> None:
    assert {rule: stored(connection, rule) for rule in RULES} == RULES


@pytest.mark.parametrize("rule", WRONG)
def test_a_rule_that_cannot_be_read_is_named_with_its_limit_and_what_to_write(
    connection: psycopg.Connection[Any], rule: str
) -> None:
    with pytest.raises(PluginError, match=r"limit 'x': cannot read .*: write a rate such as '100/s burst 20'") as mine:
        parse_limit("x", rule)
    with pytest.raises(psycopg.errors.InvalidParameterValue) as its:
        stored(connection, rule)
    assert its.value.diag.message_primary == str(mine.value)


@pytest.mark.parametrize("name", ["", "*", "a*b", "payload:", "payload:a*", "x" * 201])
def test_a_name_that_is_none_is_refused(connection: psycopg.Connection[Any], name: str) -> None:
    with pytest.raises(PluginError, match="a name is a flag, the beginning of flags followed by"):
        parse_limit(name, "1/s")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="a name is a flag, the beginning of flags"):
        stored(connection, "1/s", name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rule=st.one_of(
        st.from_regex(
            r"\A ?\d{1,4} ?/ ?(\d{1,3} ?)?(s|sec|seconds|min|hour|days?|x)( burst \d{1,4})?(,? ?max \d{1,3} running)?\Z"
        ),
        st.text(st.sampled_from("0123456789/smhdbur t,axng"), max_size=20),
    )
)
def test_python_and_the_database_agree_about_any_rule(connection: psycopg.Connection[Any], rule: str) -> None:
    try:
        mine: Limit | None = parse_limit("x", rule)
    except PluginError:
        mine = None
    try:
        its: Limit | None = stored(connection, rule)
    except psycopg.errors.InvalidParameterValue:
        its = None
    assert mine == its


def test_a_limit_that_is_set_anew_takes_the_place_of_the_old_one(connection: psycopg.Connection[Any]) -> None:
    stored(connection, "1/s")
    assert stored(connection, "max 2 running") == Limit("x", max_running=2)


def job(flags: tuple[str, ...] = (), payload: Any = None) -> Job:
    return make_job("work", payload, flags=flags)


def keys(rules: Rules, one: Job) -> dict[str, str]:
    return {key: limit.name for key, limit in rules.of_job(one)}


def test_a_flag_itself_comes_before_its_beginning_and_a_longer_one_before_a_shorter() -> None:
    rules = Rules(parse_limit(name, "1/s") for name in ("t*", "tenant:*", "tenant:1"))
    wanted = {"tenant:1": "tenant:1", "tenant:2": "tenant:*", "tea": "t*"}
    assert keys(rules, job(("other", *wanted))) == wanted


def test_a_flag_without_a_limit_is_not_limited_by_its_beginning() -> None:
    rules = Rules([parse_limit("tenant:*", "1/s"), parse_limit("tenant:1", "unlimited")])
    assert keys(rules, job(("tenant:1", "tenant:2"))) == {"tenant:2": "tenant:*"}


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        ({"a": {"b": 1}}, "payload:a.b=1"),
        ({"a": {"b": "1"}}, 'payload:a.b="1"'),
        ({"a": {"b": {"y": 1, "x": "é"}}}, 'payload:a.b={"x": "é", "y": 1}'),
        ({"a": {"b": None}}, None),
        ({"a": 1}, None),
        ([1], None),
    ],
)
def test_a_value_in_the_payload_is_found_by_its_path(payload: Any, key: str | None) -> None:
    rules = Rules([parse_limit("payload:a.b", "1/s")])
    assert list(keys(rules, job(payload=payload))) == ([key] if key else [])


def test_long_values_have_short_keys_of_their_own() -> None:
    rules = Rules([parse_limit("payload:a", "1/s")])
    found = {next(iter(keys(rules, job(payload={"a": "x" * 500 + end})))) for end in ("1", "2")}
    assert len(found) == 2
    assert max(map(len, found)) < 200


def test_a_payload_that_cannot_be_read_has_no_bucket() -> None:
    rules = Rules([parse_limit("payload:a", "1/s")])
    assert keys(rules, make_job("work", payload_json="1e400")) == {}


def test_values_that_text_cannot_hold_have_keys_that_can_be_stored(connection: psycopg.Connection[Any]) -> None:
    rules = Rules([parse_limit("payload:a", "1/s")])
    (key,) = keys(rules, make_job("work", payload_json=json.dumps({"a": "\ud800 \0"})))
    assert connection.execute("select %s", (key,)).fetchone() == (key,)
