"""Every refusal has a status."""

from server import errors
from server.grpcio_transport import grpc_errors


def _tree(error: type[errors.RequestError]) -> set[type[errors.RequestError]]:
    return {error}.union(*(_tree(child) for child in error.__subclasses__()))


def test_every_request_error_has_a_status_and_a_reason() -> None:
    classes = _tree(errors.RequestError) - {errors.RequestError}
    assert classes == set(grpc_errors.STATUS)
    assert len({error.reason for error in classes}) == len(classes)
    for kind in classes:
        error = kind("why", 0.5) if "__init__" in vars(kind) else kind("why")
        assert grpc_errors.status(error).details == "why"
