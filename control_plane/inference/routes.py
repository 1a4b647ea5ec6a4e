"""The REST calls of the Open Inference Protocol. Each converts, asks a daemon, and converts back."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from control_plane.inference import rest
from control_plane.inference.daemons import Daemons

EXTENSION = "binary_tensor_data"
_NOT_READY = 503

router = APIRouter(prefix="/v2", tags=["inference"])


@router.get("")
async def server_metadata(request: Request) -> dict[str, Any]:
    """Name, version and extensions of the server."""
    metadata = await _daemons(request).ask(lambda client: client.server_metadata())
    extensions = [*metadata.extensions, *({EXTENSION} - set(metadata.extensions))]
    return {"name": metadata.name, "version": metadata.version, "extensions": extensions}


@router.get("/health/live")
async def live(request: Request) -> JSONResponse:
    """Whether a daemon answers at all."""
    answer = await _daemons(request).any(lambda client: client.live())
    return JSONResponse({"live": answer}, 200 if answer else _NOT_READY)


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """Whether a daemon takes requests."""
    answer = await _daemons(request).any(lambda client: client.ready())
    return JSONResponse({"ready": answer}, 200 if answer else _NOT_READY)


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}")
async def model_metadata(request: Request, model: str, version: str = "") -> dict[str, Any]:
    """Inputs, outputs and versions of a model; `version` may be a number or a stage."""
    metadata = await _daemons(request).ask(lambda client: client.metadata(model, version))
    return {
        "name": metadata.name,
        "versions": list(metadata.versions),
        "platform": metadata.platform,
        "inputs": [asdict(tensor) for tensor in metadata.inputs],
        "outputs": [asdict(tensor) for tensor in metadata.outputs],
        "properties": dict(metadata.properties),
    }


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str = "") -> JSONResponse:
    """Whether a daemon takes requests for a model."""
    answer = await _daemons(request).any(lambda client: client.ready(model, version))
    return JSONResponse({"name": model, "ready": answer}, 200 if answer else _NOT_READY)


@router.post("/models/{model}/infer", response_class=Response)
@router.post("/models/{model}/versions/{version}/infer", response_class=Response)
async def infer(
    request: Request,
    model: str,
    version: str = "",
    json_length: Annotated[str | None, Header(alias=rest.LENGTH_HEADER)] = None,
    content_encoding: Annotated[str, Header()] = "identity",
) -> Response:
    """One inference, in JSON or with binary tensors; parameters are passed on."""
    if content_encoding.lower() != "identity":
        raise HTTPException(415, f"Content-Encoding {content_encoding[:40]!r} is not supported: send the body as it is")
    body = await request.body()
    # In a thread, so that a large body does not hold up every other caller.
    message, form = await run_in_threadpool(rest.decode, body, json_length, model, version)
    answer = await _daemons(request).ask(lambda client: client.infer(message))
    encoded = await run_in_threadpool(rest.encode, answer, form)
    if encoded.json_length is None:
        return Response(encoded.body, media_type="application/json")
    return Response(encoded.body, headers={rest.LENGTH_HEADER: str(encoded.json_length)}, media_type="application/octet-stream")


def _daemons(request: Request) -> Daemons:
    daemons: Daemons = request.app.state.daemons
    return daemons
