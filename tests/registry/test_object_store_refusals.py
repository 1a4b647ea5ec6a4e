"""An object store that cannot be used: what is wrong, and what to do about it, is said in one line and within seconds."""

import socket
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.errors import AccessDeniedError, NotARegistryError, OutcomeUnknownError, StoreError, UnreachableError
from registry.object_store import ObjectStore, Patience, open_bucket
from registry.store import Entry
from tests.registry.object_storage import HASTY, ObjectStorage, environment, free_port, one_line, running

KEY = "models/m/log/1"
LARGE = [bytes([number]) * (1 << 20) for number in range(12)]


def operations(store: ObjectStore) -> dict[str, Callable[[], object]]:
    """Everything a store can be asked for."""
    found = Entry(KEY, 4, datetime.now(UTC))
    return {
        "get": lambda: store.get([KEY]),
        "get many": lambda: store.get([KEY] * 100),
        "open": lambda: store.open(KEY),
        "list": lambda: list(store.list("models/")),
        "entries": lambda: list(store.entries()),
        "move": lambda: store.move(found, "x"),
        "delete": lambda: store.delete(KEY),
        "put": lambda: store.put_if_absent(KEY, [b"ours"]),
        "put a large value": lambda: store.put_if_absent(KEY, LARGE),
    }


def refusals(url: str, patience: Patience = HASTY, *, but: Collection[str] = ()) -> dict[str, StoreError]:
    """The error of every operation on a store that cannot be used, all at once; `but` are operations that need not fail."""
    todo = {name: operation for name, operation in operations(open_bucket(url, patience)).items() if name not in but}
    began = time.monotonic()
    with ThreadPoolExecutor(len(todo)) as pool:
        errors = dict(zip(todo, pool.map(refused, todo.values()), strict=True))
    assert time.monotonic() - began < 10
    return errors


def refused(operation: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        operation()
    one_line(caught.value)
    return caught.value


def test_a_dead_endpoint_is_reported_within_seconds(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    for name, error in refusals(object_storage.place(), Patience()).items():
        assert isinstance(error, UnreachableError), name
        assert "does not answer (connection refused): check the endpoint and try again" in str(error)


def test_an_endpoint_that_takes_no_connection_is_given_up(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel drops what comes to a socket whose queue is full.
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name, error in refusals(object_storage.place()).items():
            assert isinstance(error, UnreachableError), name
            assert "does not answer (no connection in time)" in str(error)


def test_an_endpoint_that_never_answers_is_given_up(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name, error in refusals(object_storage.place()).items():
            assert isinstance(error, OutcomeUnknownError if name == "put" else UnreachableError), name
            assert "does not answer (no answer in time)" in str(error)


@pytest.mark.usefixtures("object_storage")
def test_a_bucket_that_is_not_there_is_named_so() -> None:
    # S3 answers to a look at one value without saying why it is not there.
    for name, error in refusals("s3://no-such-bucket/registry", but={"move"}).items():
        assert type(error) is StoreError, name
        assert "there is no such bucket (404 NoSuchBucket" in str(error)


def test_wrong_credentials_are_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, checks_keys=True) as storage:
        for name, value in environment(storage.endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone-else")
        for name, error in refusals(storage.place()).items():
            assert isinstance(error, AccessDeniedError), name
            assert "denies access (403" in str(error)


def test_no_credentials_at_all_are_named_so(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    todo = operations(open_bucket(object_storage.place(), HASTY))
    for name in ("get", "put"):
        error = refused(todo[name])
        assert isinstance(error, AccessDeniedError)
        assert "no credentials were found: set those of the object store" in str(error)


def test_plain_http_has_to_be_allowed(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    for error in refusals(object_storage.place()).values():
        assert "the endpoint is plain http: use https, or allow it (for S3: AWS_ALLOW_HTTP=true)" in str(error)


def test_http_on_a_port_of_https_is_no_secure_connection(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_storage.endpoint.replace("http:", "https:"))
    for error in refusals(object_storage.place()).values():
        assert "no secure connection" in str(error)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///a", "s3:bucket", "http://bucket/a", "s3://bucket//a", "s3://bucket/a//b", "s3://bucket/a/../b", "s3://bucket/./a",
     "s3://key:secret@bucket/a", "s3://bucket:9000/a", "s3://bucket/a?x=1", "s3://bucket/a#x", "s3://-bucket/a", "file:///a", ""],
)  # fmt: skip
def test_what_is_no_address_of_a_bucket_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(NotARegistryError, match="is no address of a bucket") as caught:
        open_bucket(url)
    one_line(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_that_is_no_url_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "localhost:9000")
    with pytest.raises(StoreError, match=f"{name} is not a URL: write it as https://host:port"):
        open_bucket("s3://bucket/a")


def test_settings_that_cannot_be_used_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "perhaps")
    with pytest.raises(StoreError, match=r'^cannot open s3://bucket/a: .*"perhaps" as boolean') as caught:
        open_bucket("s3://bucket/a")
    one_line(caught.value)
    with pytest.raises(StoreError, match=r"^cannot open az://container/a: .*Account must be specified") as caught:
        open_bucket("az://container/a")
    one_line(caught.value)


def test_opening_asks_nothing_of_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    for url in ("s3://bucket", "S3://bucket/", "s3://bucket/a/b/", "gs://bucket/a", "s3://my.bucket_1/a b/%20"):
        assert open_bucket(url)
