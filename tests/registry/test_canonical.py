"""One value, one encoding, one digest; and no bytes from outside do more than raise a FormatError."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry import canonical
from registry.canonical import Json
from registry.errors import FormatError
from tests.registry.strategies import json_objects


@given(json_objects)
def test_what_was_encoded_is_read_back_and_encodes_to_the_same_bytes(value: dict[str, Json]) -> None:
    raw = canonical.encode(value)
    assert canonical.decode(raw, "it") == value
    assert canonical.encode(canonical.decode(raw, "it")) == raw


@given(json_objects)
def test_the_order_of_keys_does_not_change_the_bytes(value: dict[str, Json]) -> None:
    assert canonical.encode(dict(reversed(value.items()))) == canonical.encode(value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
@example(b'{"a":"\\ud800"}')
@example(b'{"\\uDFFF":1}')
@example(b'{"a":1e999}')
@example(b'{"a":-1e999}')
@example(b'{"a":NaN}')
@example(b'{"a":Infinity}')
@example(b'{"a":1,"a":2}')
@example(b'{"a":{"b":1,"b":1}}')
@example(b"\xef\xbb\xbf{}")
@example(b"")
@example(b"[]")
@example(b"null")
@example(b'{"a":' + b"9" * 10_000 + b"}")
@example(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
@example(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
def test_bytes_from_outside_parse_to_what_can_be_encoded_again_or_raise_format_error(raw: bytes) -> None:
    try:
        value = canonical.decode(raw, "it")
    except FormatError as error:
        assert str(error).startswith("it is not")
    else:
        canonical.encode(value)


@pytest.mark.parametrize("bad", [b'{"a":"\\ud800"}', b'{"a":1e999}', b'{"a":NaN}', b'{"a":1,"a":2}', b"[]", b"{", b"\xff", b"[" * 200_000])
def test_malformed_json_is_refused(bad: bytes) -> None:
    with pytest.raises(FormatError, match="it is not"):
        canonical.decode(bad, "it")


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": float("inf")}, {"a": "\ud800"}, {"a": {1, 2}}, {"a": b"x"}, {"a": object()}])
def test_what_json_cannot_hold_is_refused(bad: Json) -> None:
    with pytest.raises(FormatError, match="canonical JSON"):
        canonical.encode(bad)


def test_endless_nesting_is_refused_when_written_too() -> None:
    value: list[Json] = []
    value.append(value)
    with pytest.raises(FormatError):
        canonical.encode({"a": value})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_to_the_last_bit(number: float) -> None:
    read = canonical.decode(canonical.encode({"x": number}), "it")["x"]
    assert isinstance(read, float)
    assert number.hex() == read.hex()


def test_the_encoding_is_plain_json_for_everyone_else() -> None:
    raw = canonical.encode({"b": [1, 2.5, None, True], "a": "\u00e9\n"})
    assert raw == '{"a":"\u00e9\\n","b":[1,2.5,null,true]}\n'.encode()
    assert json.loads(raw) == {"a": "\u00e9\n", "b": [1, 2.5, None, True]}


def test_a_format_of_another_release_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match=r"expected 'tidegate\.commit/1'"):
        canonical.expect_format({"format": "tidegate.commit/2"}, "tidegate.commit/1", "a commit")
