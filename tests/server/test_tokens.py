"""The token file: what it says is what holds, and what is wrong in it is named without quoting a secret."""

import math
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access import SCOPES, Grant, Principal, digest_of
from server.errors import SettingsError
from server.tokens import Entry, entry_of, entry_text, new_token, read_tokens

DIGEST = digest_of("secret")


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_file_says_who_holds_which_token_and_certificate(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
        [[principal]]
        name = "shop"
        sha256 = "{DIGEST}"
        scopes = ["infer:churn", "read"]
        rate = 100
        burst = 250.5
        expires = 2027-01-01T00:00:00Z
        [[principal]]
        name = "batch"
        certificate = "spiffe://tidegate/batch"
        scopes = ["*"]
        """,
    )
    found = read_tokens(path)
    assert found.tokens[DIGEST].principal == Principal("shop", (Grant("infer", "churn"), Grant("read")), 100.0, 250.5)
    assert found.tokens[DIGEST].expires == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert found.certificates["spiffe://tidegate/batch"].principal == Principal("batch", (Grant("*"),))
    assert found.certificates["spiffe://tidegate/batch"].expires == math.inf
    assert len(found.tokens) == len(found.certificates) == 1


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    found = read_tokens(written(tmp_path, ""))
    assert not found.tokens
    assert not found.certificates


def test_two_tokens_of_one_name_may_stand_while_one_replaces_the_other(tmp_path: Path) -> None:
    entries = [Entry(name="shop", scopes=("infer",), sha256=digest_of(token), rate=5) for token in ("old", "new")]
    found = read_tokens(written(tmp_path, "\n".join(map(entry_text, entries))))
    assert {found.tokens[digest_of(token)].principal.name for token in ("old", "new")} == {"shop"}


ENTRY = f'[[principal]]\nname = "shop"\nsha256 = "{DIGEST}"\nscopes = ["infer"]\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[principal", "not TOML"),
        ("\x00", "not TOML"),
        ("[[token]]\n", "token"),
        ('[[principal]]\nname = "shop"\nscopes = []\n', "needs either sha256 or certificate"),
        (ENTRY + 'certificate = "shop"\n', "needs either sha256 or certificate"),
        (ENTRY + "burst = 5\n", "burst without a rate"),
        (ENTRY + "rate = 0\n", "rate"),
        (ENTRY + "rate = inf\n", "rate"),
        (ENTRY + "rate = nan\n", "rate"),
        (ENTRY + "expires = 2027-01-01T00:00:00\n", "expires"),
        (ENTRY + "expire = 2027-01-01T00:00:00Z\n", "expire"),
        (ENTRY.replace(DIGEST, DIGEST.upper()), "sha256"),
        (ENTRY.replace("shop", "a b"), "name"),
        (ENTRY.replace("infer", "write"), "is no scope"),
        (ENTRY + ENTRY, "stands in the file already"),
        (ENTRY + ENTRY.replace(DIGEST, digest_of("other")) + "rate = 5\n", "two rates"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=named) as refused:
        read_tokens(written(tmp_path, text))
    assert str(tmp_path) in str(refused.value)


def test_a_token_written_where_its_hash_belongs_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read_tokens(written(tmp_path, ENTRY.replace(DIGEST, "tidegate_the-token-itself")))
    assert "the-token-itself" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(mode: int, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="chmod go-w"):
        read_tokens(written(tmp_path, ENTRY, mode))


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o644])
def test_a_file_that_others_may_read_holds_no_secret_and_is_taken(mode: int, tmp_path: Path) -> None:
    assert read_tokens(written(tmp_path, ENTRY, mode)).tokens


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        read_tokens(tmp_path / "absent")
    with pytest.raises(SettingsError, match="cannot read"):
        read_tokens(tmp_path)


def test_new_tokens_are_long_differ_and_pass_through_metadata() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) > 48 and token.isascii() and token.isprintable() and "." not in token for token in tokens)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}", fullmatch=True)


@given(
    NAMES,
    st.lists(st.sampled_from([*SCOPES, "*", "infer:fraud-*"]), min_size=1, max_size=3),
    st.none() | st.floats(1e-3, 1e9),
    st.none()
    | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(lambda value: value.replace(microsecond=0)),  # noqa: DTZ001
)
def test_the_entry_that_is_shown_reads_back(name: str, scopes: list[str], rate: float | None, expires: datetime | None) -> None:
    entry = entry_of("secret", name, tuple(scopes), rate=rate, burst=rate, expires=expires)
    assert Entry.model_validate(tomllib.loads(entry_text(entry))["principal"][0]) == entry


@given(st.text(min_size=1, max_size=64).filter(lambda text: text.isprintable()))
def test_the_name_of_a_certificate_reads_back_whatever_stands_in_it(certificate: str) -> None:
    entry = Entry(name="batch", scopes=("read",), certificate=certificate)
    assert Entry.model_validate(tomllib.loads(entry_text(entry))["principal"][0]) == entry


@pytest.mark.parametrize(("name", "scope"), [("a b", "infer"), ("", "infer"), ("shop", "write")])
def test_an_entry_that_would_not_be_taken_is_not_made(name: str, scope: str) -> None:
    with pytest.raises(SettingsError):
        entry_of("secret", name, (scope,), rate=None, burst=None, expires=None)
