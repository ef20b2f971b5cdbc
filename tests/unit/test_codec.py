from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import uuid
from decimal import Decimal
from functools import reduce
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtasks.codec import decode, encode, encode_each
from pgtasks.errors import PayloadError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=20,
)
digits = st.text("0123456789", min_size=1, max_size=40)
number_texts = st.builds(
    lambda sign, whole, fraction, exponent: sign + (whole.lstrip("0") or "0") + fraction + exponent,
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | digits.map(lambda text: f".{text}"),
    st.just("") | st.integers(-999, 999).map(lambda power: f"e{power}") | st.integers(0, 999).map(lambda n: f"E+{n}"),
)


def deep(levels: int) -> list[Any]:
    return reduce(lambda inner, _: [inner], range(levels), list[Any]())


def problem(value: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        encode(value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Both ways


@given(json_values)
def test_what_is_encoded_decodes_to_the_same_value(value: Any) -> None:
    assert decode(encode(value)) == value


@given(json_values)
def test_what_is_encoded_is_json_to_other_decoders_too(value: Any) -> None:
    assert json.loads(encode(value)) == value


@given(json_values)
def test_what_is_encoded_has_no_character_that_postgresql_cannot_store(value: Any) -> None:
    assert "\0" not in encode(value)
    encode(value).encode("utf-8")


@given(number_texts)
def test_every_number_keeps_its_value(text: str) -> None:
    assert Decimal(str(decode(text))) == Decimal(text)


@given(number_texts)
def test_every_number_keeps_its_value_inside_of_other_values(text: str) -> None:
    assert Decimal(str(decode(f'{{"a": [{text}, "x"]}}')["a"][0])) == Decimal(text)


@given(number_texts.map(decode))
def test_a_number_that_was_decoded_is_encoded_exactly(number: Any) -> None:
    assert Decimal(encode(number)) == Decimal(str(number))


@given(st.text(st.characters(exclude_categories=())))
def test_bytes_decode_as_text_does(text: str) -> None:
    encoded = json.dumps(text, ensure_ascii=False)
    assert decode(encoded.encode("utf-8", "surrogatepass")) == decode(encoded) == text


# Reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e400", Decimal("1e400")),
        ("1e-400", Decimal("1e-400")),
        ("0.1234567890123456789", Decimal("0.1234567890123456789")),
        ("100000000000000000000.5", Decimal("100000000000000000000.5")),
        ("9007199254740993.0", Decimal("9007199254740993.0")),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("18446744073709551616", 2**64),
    ],
)
def test_a_number_is_an_int_a_float_or_a_decimal_whichever_is_exact(text: str, value: object) -> None:
    decoded = decode(text)
    assert (type(decoded), decoded) == (type(value), value)


def test_minus_zero_keeps_its_sign() -> None:
    assert math.copysign(1, decode("-0.0")) == -1
    assert encode(-0.0) == "-0.0"


def test_digits_in_a_string_stay_a_string() -> None:
    assert decode('{"card": "4111111111111111111111"}') == {"card": "4111111111111111111111"}


def test_a_lone_surrogate_is_read() -> None:
    assert decode(r'"\ud800"') == "\ud800"


def test_an_escaped_nul_is_read() -> None:
    assert decode(rb'{"a\u0000": "\u0000"}') == {"a\0": "\0"}


@pytest.mark.parametrize(
    "text", ["", "NaN", "[Infinity]", "-Infinity", "{", "[1,]", "01", "'a'", "\ufeff1", "1\0", b"\xff", b'"\x80"']
)
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(PayloadError, match="payload cannot be read as a Python value: "):
        decode(text)


def test_an_integer_of_more_digits_than_python_reads_is_refused() -> None:
    with pytest.raises(PayloadError, match="4300 digits"):
        decode("9" * 5000)


def test_an_exponent_of_more_digits_than_a_decimal_takes_is_refused() -> None:
    with pytest.raises(PayloadError, match="exponent is too large"):
        decode("1e99999999999999999999")


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(PayloadError, match="payload is nested too deeply to be read"):
        decode("[" * 100_000 + "]" * 100_000)


# Writing


class Colour(enum.Enum):
    RED = "red"


class Mixed(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
    A = "a"


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Email:
    to: str
    _private: int = 1
    copy: str | None = None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Email("ada"), '{"to":"ada","_private":1,"copy":null}'),
        (Email("ada", copy="bob"), '{"to":"ada","_private":1,"copy":"bob"}'),
        (Colour.RED, '"red"'),
        (Mixed.A, '"a"'),
        (Point(1, 2), "[1,2]"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), '"2026-01-02T03:04:05+00:00"'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (dt.time(3, 4), '"03:04:00"'),
        (dt.time(3, 4, tzinfo=dt.UTC), '"03:04:00+00:00"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("0.10"), "0.10"),
        (Decimal("1e400"), "1E+400"),
        (Shouting("hello"), '"hello"'),
        ({Mixed.A: 1}, '{"a":1}'),
        ({Shouting("hello"): 1}, '{"hello":1}'),
        (2**70, "1180591620717411303424"),
    ],
)
def test_values_beyond_json_become_their_nearest_json(value: object, text: str) -> None:
    assert encode(value) == text


@pytest.mark.parametrize(
    "value", [Email("ada"), Colour.RED, Mixed.A, Point(1, 2), Shouting("hello"), {Shouting("hello"): 1}]
)
def test_a_value_is_written_the_same_beside_one_that_takes_the_slow_way(value: object) -> None:
    assert encode([value, None, 2**70]) == f"[{encode(value)},null,{2**70}]"


@given(st.lists(json_values))
def test_values_are_encoded_together_as_they_are_alone_or_not_at_all(values: list[Any]) -> None:
    texts = encode_each(values)
    assert texts is None or texts == [encode(value) for value in values]


@pytest.mark.parametrize("value", [{"a": None, "b": [1.5, "null"]}, Email("ada"), [Colour.RED, None][1:], Mixed.A])
def test_a_null_does_not_keep_values_from_being_encoded_together(value: object) -> None:
    assert encode_each([value, None]) == [encode(value), "null"]


@pytest.mark.parametrize("value", [math.nan, [None, -math.inf], Email(math.nan), {1}, {1: 2}, 2**70])  # type: ignore[arg-type]
def test_values_of_which_one_is_unusual_are_not_encoded_together(value: object) -> None:
    assert encode_each([1, value, "a"]) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "payload is nan, which JSON cannot hold"),
        ({"a": [1.0, float("inf")]}, "payload['a'][1] is inf, which JSON cannot hold"),
        ([Decimal("NaN")], "payload[0] is NaN, which JSON cannot hold"),
        ({"to": {"ada"}}, "payload['to'] is a set, which JSON cannot hold"),
        ({"x": b"bytes"}, "payload['x'] is a bytes, which JSON cannot hold"),
        ([object], "payload[0] is a type, which JSON cannot hold"),
        (Email, "payload is a type, which JSON cannot hold"),
        (Email(set()), "payload['to'] is a set, which JSON cannot hold"),  # type: ignore[arg-type]
        ({1: "one"}, "payload has the key 1 of type int; keys must be strings"),
        ({"a": [{None: 1}]}, "payload['a'][0] has the key None of type NoneType; keys must be strings"),
        (deep(100_000), "payload is nested too deeply, or contains itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_json_cannot_hold_is_named_with_its_place(value: object, message: str) -> None:
    assert problem(value) == message


def test_a_type_of_a_module_is_named_with_its_module() -> None:
    assert problem([uuid]) == "payload[0] is a module, which JSON cannot hold"
    assert problem(NotJson()) == f"payload is a {NotJson.__module__}.NotJson, which JSON cannot hold"


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert problem(loop) == "payload is nested too deeply, or contains itself"


def test_an_integer_of_more_digits_than_python_writes_is_refused() -> None:
    assert problem({"n": 10**5000}).startswith("payload['n'] is an integer that is too long: ")


def test_the_payload_can_be_given_another_name() -> None:
    with pytest.raises(PayloadError, match=r"^payload of task 'x'\['a'\] is a set"):
        encode({"a": set()}, "payload of task 'x'")


class NotJson:
    pass
