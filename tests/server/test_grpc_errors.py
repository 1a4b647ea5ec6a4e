"""Every refusal has a status."""

from server import errors, grpc_errors


def _tree(error: type[errors.RequestError]) -> set[type[errors.RequestError]]:
    return {error}.union(*(_tree(child) for child in error.__subclasses__()))


def test_every_request_error_has_a_status_and_a_reason() -> None:
    classes = _tree(errors.RequestError) - {errors.RequestError}
    assert classes == set(grpc_errors.STATUS)
    assert len({error.reason for error in classes}) == len(classes)
    for kind in classes:
        error = kind("why", 0.5) if "__init__" in vars(kind) else kind("why")
        assert grpc_errors.status(error).details == "why"


def test_a_long_text_is_cut_between_letters_and_keeps_code_and_reason() -> None:
    for text in ("x" * 100_000, "\u20ac" * 100_000, "\udcff" * 2000):
        status = grpc_errors.status(errors.ModelFailedError(text))
        assert status.code is grpc_errors.STATUS[errors.ModelFailedError]
        assert 1000 < len(status.details.encode()) <= grpc_errors.MAX_TEXT_BYTES
        assert sum(len(value) for _, value in status.trailing_metadata) < 2000
