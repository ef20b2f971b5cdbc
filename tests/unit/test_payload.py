from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Optional, Required, TypedDict

import pytest
import typing_extensions
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, computed_field, field_serializer, field_validator

from pgtasks import App, JobContext, PayloadError, Registry, TaskDefinitionError, codec

if TYPE_CHECKING:
    from decimal import Context as OnlyForCheckers

    from pgtasks.tasks import AnyTask


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Part:
    price: Decimal
    image: bytes = b""


@dataclass
class Whole:
    when: dt.datetime
    parts: list[Part] = field(default_factory=list)
    next: Optional[Whole] = None  # noqa: UP045 - so that a type names itself


class Note(TypedDict):
    text: bytes
    price: NotRequired[Decimal]


class Tree(TypedDict):
    value: Decimal
    children: list[Tree]


class Order(BaseModel):
    id: uuid.UUID
    total: Decimal = Decimal(1)


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


class TaggedCat(Cat):
    kind: Literal["cat"] = "cat"


class TaggedDog(Dog):
    kind: Literal["dog"] = "dog"


class Aliased(BaseModel):
    x: int = Field(alias="theX")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: dt.datetime
    price: Decimal


class Measured(BaseModel):
    length: float


class Tolerant(BaseModel):
    model_config = ConfigDict(extra="ignore")
    x: int


class Secretive(BaseModel):
    password: SecretStr | None = None


class Open(Secretive):
    @field_serializer("password")
    def _tell(self, value: SecretStr | None) -> str | None:
        return None if value is None else value.get_secret_value()


UTC = dt.UTC
NOON = dt.datetime(2026, 11, 29, 12, 0, 0, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
ONE = uuid.UUID(int=1)


def task_of(handler: Callable[..., object], **options: Any) -> AnyTask:
    made: AnyTask = App(registry=Registry()).task(name="send", **options)(handler)
    return made


def taking(hint: Any, **options: Any) -> AnyTask:
    """A task whose payload is of a type."""

    def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = hint
    return task_of(handler, **options)


def stored(task: AnyTask, payload: Any) -> str:
    return codec.encode(task.payload.dump(payload))


def kept(task: AnyTask, payload: Any) -> Any:
    """What a handler gets of what `defer` was given."""
    return task.payload.load(stored(task, payload))


def problem(task: AnyTask, payload: Any) -> str:
    """What is wrong with a payload at `defer`, after the words that begin each message."""
    with pytest.raises(PayloadError) as caught:
        stored(task, payload)
    return what(caught.value)


def problem_of(task: AnyTask, text: str) -> str:
    """What is wrong with a payload at run."""
    with pytest.raises(PayloadError) as caught:
        task.payload.load(text)
    return what(caught.value)


def what(error: PayloadError) -> str:
    assert "\n" not in str(error)
    return str(error).removeprefix("task 'send' cannot take this payload: ")


# There and back


@pytest.mark.parametrize(
    ("hint", "payload", "text"),
    [
        (dt.datetime, NOON, '"2026-11-29T12:00:00.000001+05:30"'),
        (dt.datetime, NOON.replace(tzinfo=UTC), '"2026-11-29T12:00:00.000001Z"'),
        (dt.datetime, NOON.replace(tzinfo=None), '"2026-11-29T12:00:00.000001"'),
        (dt.date, dt.date(2026, 11, 29), '"2026-11-29"'),
        (dt.time, dt.time(1, 2, 3, 4), '"01:02:03.000004"'),
        (dt.timedelta, dt.timedelta(days=400, microseconds=1), '"P1Y35DT0.000001S"'),
        (uuid.UUID, ONE, '"00000000-0000-0000-0000-000000000001"'),
        (Decimal, Decimal("1.10"), '"1.10"'),
        (Decimal, Decimal("1E+400"), '"1E+400"'),
        (Decimal, Decimal("0." + "123456789" * 5), f'"0.{"123456789" * 5}"'),
        (int, 10**30, "1" + "0" * 30),
        (float, 1e22, "1e22"),
        (bytes, b"\xff\0", '"_wA="'),
        (Color, Color.RED, '"red"'),
        (Color, Color.BLUE, "2"),
        (str, "\ud800\0é", '"\\ud800\\u0000\\u00e9"'),
        (list[str], ["\ud800"], '["\\ud800"]'),
        (dict[str, bytes], {"\ufffd": b"\xff"}, '{"\ufffd":"_w=="}'),
        (dict[uuid.UUID, int], {ONE: 1}, '{"00000000-0000-0000-0000-000000000001":1}'),
        (dict[dt.date, int], {dt.date(2026, 1, 1): 1}, '{"2026-01-01":1}'),
        (tuple[int, bytes], (1, b"\xff"), '[1,"_w=="]'),
        (set[int], {1, 2}, "[1,2]"),
        (Part, Part(Decimal("1.10"), b"\xff"), '{"price":"1.10","image":"_w=="}'),
        (
            Whole,
            Whole(NOON, [Part(Decimal(1))], Whole(NOON)),
            (
                '{"when":"2026-11-29T12:00:00.000001+05:30","parts":[{"price":"1","image":""}],'
                '"next":{"when":"2026-11-29T12:00:00.000001+05:30","parts":[],"next":null}}'
            ),
        ),
        (Note, {"text": b"\xff"}, '{"text":"_w=="}'),
        (Note, {"text": b"\xff", "price": Decimal("1.10")}, '{"text":"_w==","price":"1.10"}'),
        (list[Note], [{"text": b"\xff"}], '[{"text":"_w=="}]'),
        (
            Tree,
            {"value": Decimal(1), "children": [{"value": Decimal(2), "children": []}]},
            '{"value":"1","children":[{"value":"2","children":[]}]}',
        ),
        (Order, Order(id=ONE), '{"id":"00000000-0000-0000-0000-000000000001","total":"1"}'),
        (Aliased, Aliased(theX=1), '{"theX":1}'),
        (
            Strict,
            Strict(when=NOON, price=Decimal("1.10")),
            '{"when":"2026-11-29T12:00:00.000001+05:30","price":"1.10"}',
        ),
        (Open, Open(password=SecretStr("hunter2")), '{"password":"hunter2"}'),
        (int | None, None, "null"),
        (dict[str, int] | None, None, "null"),
        (Secretive | None, None, "null"),
        (None, None, "null"),
        (int | str, "5", '"5"'),
        (int | str, 5, "5"),
        (Decimal | float, 1.5, "1.5"),
        (Decimal | float, Decimal("1.5"), '"1.5"'),
        (uuid.UUID | str, ONE, '"00000000-0000-0000-0000-000000000001"'),
        (dt.datetime | str, "2026-01-01", '"2026-01-01"'),
        (TaggedCat | TaggedDog, TaggedDog(name="Rex"), '{"name":"Rex","kind":"dog"}'),
        (Annotated[TaggedCat | TaggedDog, Field(discriminator="kind")], TaggedDog(name="Rex"), None),
        (Annotated[int, Field(gt=3)], 5, "5"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_payload_comes_back_as_it_was(hint: Any, payload: Any, text: str | None) -> None:
    task = taking(hint)
    if text is not None:
        assert codec.decode(stored(task, payload)) == codec.decode(text)
    assert (back := kept(task, payload)) == payload
    assert type(back) is type(payload)
    assert str(back) == str(payload) or not isinstance(payload, Decimal)


texts = st.text(st.characters(exclude_categories=()))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
times = st.datetimes(timezones=st.timezones().map(lambda _: UTC) | st.just(UTC) | st.none())
parts = st.builds(Part, decimals, st.binary())


class Everything(TypedDict):
    text: str
    whole: int
    part: float
    exact: Decimal
    raw: bytes
    id: uuid.UUID
    at: dt.datetime
    on: dt.date
    lasts: dt.timedelta
    color: Color
    of: dict[str, list[Part]]
    pair: tuple[int, str]
    maybe: Whole | None
    model: Order


everything = st.fixed_dictionaries(
    {
        "text": texts,
        "whole": st.integers(),
        "part": st.floats(allow_nan=False, allow_infinity=False),
        "exact": decimals,
        "raw": st.binary(),
        "id": st.uuids(),
        "at": times,
        "on": st.dates(),
        "lasts": st.timedeltas(),
        "color": st.sampled_from(Color),
        "of": st.dictionaries(st.text(), st.lists(parts, max_size=3), max_size=3),
        "pair": st.tuples(st.integers(), texts),
        "maybe": st.none() | st.builds(Whole, times, st.lists(parts, max_size=3), st.none() | st.builds(Whole, times)),
        "model": st.builds(lambda id, total: Order(id=id, total=total), st.uuids(), decimals),
    }
)
taking_everything = taking(Everything)


@settings(max_examples=40, deadline=None)
@given(everything)
def test_whatever_a_payload_holds_comes_back(payload: Any) -> None:
    assert kept(taking_everything, payload) == payload


@settings(max_examples=20, deadline=None)
@given(everything)
def test_whatever_keys_hold_comes_back(payload: Any) -> None:
    task = task_of(with_all_keys)
    assert kept(task, task.args(**payload)) == payload


def with_all_keys(
    *,
    text: str,
    whole: int,
    part: float,
    exact: Decimal,
    raw: bytes,
    id: uuid.UUID,
    at: dt.datetime,
    on: dt.date,
    lasts: dt.timedelta,
    color: Color,
    of: dict[str, list[Part]],
    pair: tuple[int, str],
    maybe: Whole | None,
    model: Order,
) -> None: ...


# No payload


def test_a_handler_that_takes_nothing_takes_no_payload() -> None:
    def ping() -> None: ...

    def look(ctx: JobContext) -> None: ...

    app = App(registry=Registry())
    none: AnyTask = app.task(ping)
    context: AnyTask = app.task(look)
    assert (none.spec(None).payload, none.spec({}).payload) == (None, {})
    payloads: list[Any] = [{"to": "ada"}, [], 0]
    for payload in payloads:
        with pytest.raises(PayloadError, match="'ping' cannot take this payload: its handler takes none"):
            none.spec(payload)
        assert context.spec(payload).payload == payload


def test_none_is_an_empty_object_unless_the_handler_takes_it() -> None:
    assert taking(Any).payload.dump(None) is None
    assert taking(dict).payload.dump(None) is None
    assert stored(taking(dict[str, int]), None) == "{}"
    assert stored(taking(Tolerant | None), None) == "null"
    assert task_of(lambda *, a=1: None).payload.dump(None) == {}


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (int, "it should be a valid integer, not NoneType"),
        (list, "it should be a list, not dict"),
        (list[int], "it should be a valid list, not NoneType"),
        (Part, "'price' is missing"),
    ],
)
def test_no_payload_is_refused_where_one_is_needed(hint: Any, message: str) -> None:
    assert problem(taking(hint), None) == message


# What is refused when a job is added


@pytest.mark.parametrize(
    ("hint", "payload", "message"),
    [
        (int, "five", "it should be a valid integer, unable to parse string as an integer, not str"),
        (int, 1.5, "it should be a valid integer, got a number with a fractional part"),
        (str, 5, "it should be a valid string, not int"),
        (float, math.nan, "it should be a finite number"),
        (Decimal, Decimal("Infinity"), "it should be a finite number"),
        (Color, "green", "it should be 'red' or 2"),
        (Annotated[int, Field(gt=3)], 2, "it should be greater than 3"),
        (Annotated[str, Field(min_length=3)], "ab", "String should have at least 3 characters"),
        (Part, Whole(NOON), "it should be a dictionary or an instance of Part, not Whole"),
        (Part, {"price": []}, "'price': Decimal input should be an integer, float, string or Decimal object"),
        (Part, {"price": 1, "prize": 2}, "'prize' is not one of its keys; did you mean 'price'?"),
        (Part, Part("a lot"), "'price' should be a valid decimal, not str"),  # type: ignore[arg-type]
        (
            Whole,
            {"when": NOON, "parts": [{"price": 1, "x": 1}, {}]},
            "'parts'[0]['x'] is not one of its keys; 'parts'[1]['price'] is missing",
        ),
        (Note, {}, "'text' is missing"),
        (dict[str, int], {"a": "b"}, "'a' should be a valid integer, unable to parse string as an integer, not str"),
        (
            dict[int, dict[int, int]],
            {1: {"b": 1}},
            "key 'b' of [1] should be a valid integer, unable to parse string as an integer, not str",
        ),
        (
            list[int],
            [[]] * 7,
            "; ".join(f"[{n}] should be a valid integer, not list" for n in range(5)) + "; and 2 more",
        ),
        (dict, [1], "it should be a dict, not list"),
        (list, {}, "it should be a list, not dict"),
        (dict, {"a": b"x"}, "payload['a'] is a bytes, which JSON cannot hold"),
        (
            list[Callable[..., Any]],
            [len],
            "it cannot be written as JSON: Unable to serialize unknown type: <class 'builtin_function_or_method'>",
        ),
        (dict[str, Any], {"a": {1: 2}}, "payload['a'] has the key 1 of type int; keys must be strings"),
        (list[dict[str, Any]], [{"a": math.nan}], "payload[0]['a'] is nan, which JSON cannot hold"),
        (Measured, Measured(length=math.inf), "payload['length'] is inf, which JSON cannot hold"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_payload_is_refused_with_places_and_types_and_without_values(
    hint: Any, payload: Any, message: str
) -> None:
    assert problem(taking(hint), payload) == message


def test_what_a_validator_says_is_said_of_its_field() -> None:
    class Checked(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _known(cls, name: str) -> str:
            assert name != "Bob", "Bob is on holiday"
            if name != "Ada":
                raise ValueError("nobody knows that name")
            return name

    task = taking(Checked)
    assert problem(task, {"name": "Eve"}) == "'name': nobody knows that name"
    assert problem(task, {"name": "Bob"}) == "'name': Bob is on holiday"


def test_a_misspelt_key_is_named_with_the_nearest() -> None:
    task = task_of(lambda *, to, subject="": None)
    assert problem(task, {"to": 1, "subjct": 2}) == "'subjct' is not one of its keys; did you mean 'subject'?"
    assert problem(task, {"subject": 2}) == "'to' is missing"
    assert problem(task, [1]) == "it should be a valid dictionary, not list"


@pytest.mark.parametrize(
    ("hint", "payload", "message"),
    [
        (Cat | Dog, Dog(name="Rex"), "it is of type Dog, and what is stored of it would be read as Cat"),
        (
            list[Cat | Dog],
            [Cat(name="Tom"), Dog(name="Rex")],
            "[1] is of type Dog, and what is stored of it would be read as Cat",
        ),
        (uuid.UUID | str, str(ONE), "it is of type str, and what is stored of it would be read as UUID"),
        (bytes | str, "abcd", "it is of type str, and what is stored of it would be read as bytes"),
        (Color | str, Color.RED, "it is of type Color, and what is stored of it would be read as str"),
        (list[int] | set[int], {1}, "it is of type set, and what is stored of it would be read as list"),
        (dict[str, int], {"\ud800": 1}, "'\\ud800' would be stored under another key"),
        (
            Secretive,
            Secretive(password=SecretStr("hunter2")),
            "'password' is of type SecretStr, of which asterisks are stored; give it a serializer",
        ),
        (
            dict[None, int],
            {None: 1},
            "what is stored of it could not be read again: key 'None' should be null, not str",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_json_would_bring_back_as_something_else_is_refused(hint: Any, payload: Any, message: str) -> None:
    task = taking(hint)
    for _ in range(2):
        assert problem(task, payload) == message


def test_a_model_that_could_not_read_what_it_writes_is_refused() -> None:
    class OneWay(BaseModel):
        model_config = ConfigDict(extra="forbid")
        x: int = Field(serialization_alias="theX")

    assert problem(taking(OneWay), OneWay(x=1)) == (
        "what is stored of it could not be read again: 'x' is missing; 'theX' is not one of its keys"
    )


# What is refused, or taken, when a job runs


@pytest.mark.parametrize(
    ("hint", "text", "payload"),
    [
        (
            list[Decimal],
            "[0.1, 1.10, 1e400, 12345678901234567890.123, 7]",
            [Decimal("0.1"), Decimal("1.1"), Decimal("1e400"), Decimal("12345678901234567890.123"), Decimal(7)],
        ),
        (list[float], "[0.1, 12345678901234567890.123, 1]", [0.1, 12345678901234567890.123, 1.0]),
        (
            list[int],
            "[123456789012345678901234567890, 12345678901234567890.0, 1e3]",
            [123456789012345678901234567890, 12345678901234567890, 1000],
        ),
        (
            list[dict[str, Any]],
            '[{"a": 0.1000000000000000055511151231257827}]',
            [{"a": Decimal("0.1000000000000000055511151231257827")}],
        ),
        (
            Strict,
            '{"when": "2026-11-29T12:00:00.000001+05:30", "price": 1.1234567890123456789}',
            Strict(when=NOON, price=Decimal("1.1234567890123456789")),
        ),
        (dict[str, str], '{"\\ud800": "\\ud801"}', {"\ud800": "\ud801"}),
        (Part, '{"price": 1, "unknown": 5}', Part(Decimal(1))),
        (Note, '{"text": "", "unknown": {"deep": []}}', {"text": b""}),
        (Sequence[int], "[1]", [1]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_payload_from_elsewhere_is_read_exactly_and_without_what_is_not_known(
    hint: Any, text: str, payload: Any
) -> None:
    back = taking(hint).payload.load(text)
    assert back == payload
    assert repr(back) == repr(payload) or isinstance(payload, Strict)


@pytest.mark.parametrize(
    ("hint", "text", "message"),
    [
        (list[float], "[1e400]", "[0] should be a finite number"),
        (list[str], "[1234567890123456.7890123456789]", "[0] should be a valid string, not Decimal"),
        (
            list[int],
            "[1e999999999]",
            "payload cannot be read as a Python value: it has a number whose exponent is too large",
        ),
        (
            list[int],
            f"[{'9' * 5000}]",
            (
                "payload cannot be read as a Python value: Exceeds the limit (4300 digits) for integer string "
                "conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit"
            ),
        ),
        (list[int], "[", "payload cannot be read as a Python value: Expecting value: line 1 column 2 (char 1)"),
        (list[int], "[" * 100_000, "payload is nested too deeply to be read"),
        (list[int], '{"a": 1}', "it should be a valid array, not dict"),
        (Part, '"text"', "it should be an object, not str"),
        (dict, "5", "it should be a dict, not int"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_payload_from_elsewhere_that_the_handler_does_not_take_is_refused(hint: Any, text: str, message: str) -> None:
    assert problem_of(taking(hint), text) == message


def test_extra_keys_are_as_a_type_says_that_says_something_of_them() -> None:
    assert kept(taking(Tolerant), {"x": 1, "y": 2}) == Tolerant(x=1)
    assert kept(task_of(lambda *, a, **more: None), {"a": 1, "b": [2]}) == {"a": 1, "b": [2]}


def test_keys_without_a_type_are_as_json_has_them() -> None:
    def handler(*, at: dt.datetime, data: dict[str, Any], more: list, any, **further: Any) -> None:  # type: ignore[no-untyped-def, type-arg]  # noqa: A002
        ...

    task = task_of(handler)
    payload = {"at": NOON, "data": {"n": 1, "d": Decimal("1.10")}, "more": [2], "any": None, "further": 3}
    assert stored(task, payload) == (
        '{"at":"2026-11-29T12:00:00.000001+05:30","data":{"n":1,"d":1.10},"more":[2],"any":null,"further":3}'
    )
    assert kept(task, payload) == {**payload, "data": {"n": 1, "d": 1.1}}
    for key in ("data", "more", "any", "further"):
        value = {"n": {1}} if key == "data" else [{1}]
        where = "['n']" if key == "data" else "[0]"
        assert problem(task, {**payload, key: value}) == f"payload['{key}']{where} is a set, which JSON cannot hold"
    assert problem(task, {**payload, "data": 5}) == "'data' should be a valid dictionary, not int"


def test_any_mapping_may_hold_the_keys() -> None:
    assert kept(task_of(lambda *, a: None), MappingProxyType({"a": 1})) == {"a": 1}


# Payloads of old


def test_a_payload_is_upgraded_before_it_is_checked() -> None:
    def upgrade(payload: Any) -> Any:
        return {"price": payload["old"]} if "old" in payload else payload

    task = taking(Part, upgrade=upgrade)
    assert task.payload.load('{"old": 1.10}', upgrade) == Part(Decimal("1.1"))
    assert task.payload.load('{"price": "1.10"}', upgrade) == Part(Decimal("1.10"))
    with pytest.raises(PayloadError) as caught:
        task.payload.load('{"old": null}', lambda payload: {"price": {1}})
    assert what(caught.value) == (
        "what upgrades payloads of task 'send' returned['price'] is a set, which JSON cannot hold"
    )


def test_who_upgrades_a_payload_and_returns_nothing_is_told_so() -> None:
    def forgetful(payload: Any) -> None:
        payload["price"] = 1

    for task in (taking(Part), taking(dict)):
        with pytest.raises(PayloadError, match="what upgrades payloads of task 'send' returned None: it has to return"):
            task.payload.load("{}", forgetful)
    for task in (taking(Part | None), taking(Any)):
        assert task.payload.load("{}", forgetful) is None


# Annotations


class LaterUsed(TypedDict, total=False):
    later: Required[Later]
    maybe: typing_extensions.ReadOnly[int]


@dataclass
class Incomplete:
    x: NoSuchThing  # type: ignore[name-defined] # noqa: F821


def test_annotations_may_name_what_is_defined_later() -> None:
    assert kept(taking("LaterUsed"), {"later": Later(1)}) == {"later": Later(1)}
    assert problem(taking(LaterUsed), {}) == "'later' is missing"


@dataclass
class Later:
    x: int


def test_annotations_may_name_what_is_local() -> None:
    @dataclass
    class Local:
        x: int

    def made_deeper() -> AnyTask:
        def handler(payload: Local) -> None: ...

        return task_of(handler)

    def with_keys(*, a: Local, b: list[Local] | None = None) -> None: ...

    assert kept(made_deeper(), Local(1)) == Local(1)
    assert kept(task_of(with_keys), {"a": Local(1), "b": [Local(2)]}) == {"a": Local(1), "b": [Local(2)]}


def test_the_context_is_known_without_its_name() -> None:
    def handler(payload: int, job: OnlyForCheckers | JobContext) -> None: ...

    assert task_of(handler).takes_context
    assert kept(task_of(handler), 5) == 5


def test_who_gives_a_key_to_what_takes_the_whole_payload_is_told_of_the_star() -> None:
    def whole(days: int = 30) -> None: ...

    task = task_of(whole)
    for payload in ({"days": 5}, {}, None):
        with pytest.raises(
            PayloadError, match=r"int.* not .*; its parameter 'days' takes all .* behind a star, \(\*, days\)"
        ):
            task.payload.dump(payload)
    for wrong in ({"day": 5}, "x"):
        with pytest.raises(PayloadError) as caught:
            task.payload.dump(wrong)
        assert "star" not in str(caught.value)


NOT_THERE = (
    "which is not there when the program runs; define it at module level, and import it outside of `if TYPE_CHECKING`"
)
UNKNOWN = "is no type that pydantic knows; take a dataclass, a TypedDict or a pydantic model instead"


def undefined(payload: OnlyForCheckers) -> None: ...


def syntax(payload: Any) -> None: ...


syntax.__annotations__["payload"] = "dict[str"


def raising(payload: Any) -> None: ...


raising.__annotations__["payload"] = "int[str]"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            undefined,
            f"its annotations name 'OnlyForCheckers', {NOT_THERE}",
        ),
        (
            syntax,
            "its annotations cannot be read: SyntaxError: Forward reference must be an expression -- got 'dict[str'",
        ),
        (raising, "its annotations cannot be read: TypeError: type 'int' is not subscriptable"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_an_error_of_the_task(
    handler: Callable[..., object], message: str
) -> None:
    task = task_of(handler)
    for use in (task.payload.check, lambda: task.payload.dump(1), lambda: task.payload.load("1")):
        with pytest.raises(TaskDefinitionError) as caught:
            use()
        assert str(caught.value) == f"Task 'send' at {__file__}:{handler.__code__.co_firstlineno}: {message}"


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (
            Incomplete,
            f"a type of its payload names 'NoSuchThing', {NOT_THERE}",
        ),
        (
            zoneinfo.ZoneInfo | bytearray,
            f"its payload cannot be checked: <class 'bytearray'> {UNKNOWN}",
        ),
        (
            5,
            f"its payload cannot be checked: 5 {UNKNOWN}",
        ),
    ],
    ids=["incomplete", "unknown", "no type"],
)
def test_a_type_that_cannot_be_checked_is_an_error_of_the_task(hint: Any, message: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        taking(hint).payload.dump(1)
    assert str(caught.value).partition(": ")[2] == message


def test_what_a_handler_returns_is_looked_at_where_it_is_stored_alone() -> None:
    def handler(payload: int) -> list[BaseException]:
        return []

    task_of(handler).check()
    with pytest.raises(TaskDefinitionError, match="its result cannot be checked"):
        task_of(handler, store_result=True).check()


class FromAndTo(BaseModel):
    from_: str = Field(alias="from")
    to: str = ""


def test_the_nearest_key_is_one_that_is_taken() -> None:
    assert problem(taking(FromAndTo), {"from": "x", "from_": "x"}) == (
        "'from_' is not one of its keys; did you mean 'from'?"
    )


class Square(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int
    corners: Json[dict[str, int]]

    @computed_field
    def area(self) -> int:
        return self.side**2


def test_what_a_model_computes_or_has_read_from_json_comes_back() -> None:
    square = Square.model_validate({"side": 2, "corners": '{"right":4}'})
    assert kept(taking(Square), square) == square


def test_each_instance_is_looked_at_since_nobody_has_checked_a_dataclass() -> None:
    task = taking(list[Part])
    task.spec([Part(Decimal(1))])
    wrong: Any = "x"
    assert "[0]['price'] should be a valid decimal" in problem(task, [Part(wrong)])


def test_a_tag_that_there_is_not_is_not_shown() -> None:
    tagged = Annotated[TaggedCat | TaggedDog, Field(discriminator="kind")]
    assert problem(taking(tagged), {"name": "x", "kind": "secret"}) == "'kind' should be one of 'cat', 'dog'"
    assert problem(taking(tagged), {"name": "x"}) == "'kind' is missing"
