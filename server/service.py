"""Every call that reads what is served, the same for all transports: functions from request bytes to answer bytes.

ModelInfer is the transports', RecordFeedback is in `feedback_calls`.
"""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version as distribution_version
from typing import TypeAlias

from registry import drift
from registry.bundle import TensorSpec
from registry.drift import FeatureDrift
from server import model_config, model_statistics, repository_index
from server.counts import Counters
from server.errors import InputMismatchError, ModelLoadingError, PermissionDeniedError, VersionUnknownError
from server.loaded_version import LoadedVersion
from server.messages import parse
from server.model_config import PLATFORM, Batching
from server.routing import RoutingTable
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import monitoring_pb2 as monitoring

INFERENCE = "inference.GRPCInferenceService"
MONITORING = "tidegate.v1.MonitoringService"
EXTENSIONS = ("model_repository", "model_configuration", "statistics", "schedule_policy")
"""The extensions of the protocol that are served, by Triton's names for them."""

Call: TypeAlias = Callable[[bytes], bytes]


class Service:
    """Answers about what is served. `counters` reads what the transport has counted, `batching` is what it batches by."""

    def __init__(self, counters: Callable[[], Counters], batching: Batching) -> None:
        self._counters = counters
        self._batching = batching
        self._table = RoutingTable()

    def install(self, table: RoutingTable) -> None:
        """Answer by `table` from now on."""
        self._table = table

    def calls(self) -> Mapping[str, Call]:
        """Every call by its path."""
        return {
            f"/{INFERENCE}/ServerLive": self._server_live,
            f"/{INFERENCE}/ServerReady": self._server_ready,
            f"/{INFERENCE}/ServerMetadata": self._server_metadata,
            f"/{INFERENCE}/ModelReady": self._model_ready,
            f"/{INFERENCE}/ModelMetadata": self._model_metadata,
            f"/{INFERENCE}/ModelConfig": self._model_config,
            f"/{INFERENCE}/ModelStatistics": self._model_statistics,
            f"/{INFERENCE}/RepositoryIndex": self._repository_index,
            f"/{INFERENCE}/RepositoryModelLoad": _refuse,
            f"/{INFERENCE}/RepositoryModelUnload": _refuse,
            f"/{MONITORING}/GetDrift": self._get_drift,
        }

    def _server_live(self, _: bytes) -> bytes:
        return pb.ServerLiveResponse(live=True).SerializeToString()

    def _server_ready(self, _: bytes) -> bytes:
        return pb.ServerReadyResponse(ready=self._table.complete).SerializeToString()

    def _server_metadata(self, _: bytes) -> bytes:
        return pb.ServerMetadataResponse(
            name="tidegate", version=distribution_version("tidegate"), extensions=EXTENSIONS
        ).SerializeToString()

    def _model_ready(self, data: bytes) -> bytes:
        request = parse(pb.ModelReadyRequest, data)
        try:
            self._table.resolve(request.name, request.version)
        except ModelLoadingError:
            return pb.ModelReadyResponse(ready=False).SerializeToString()
        return pb.ModelReadyResponse(ready=True).SerializeToString()

    def _model_metadata(self, data: bytes) -> bytes:
        request = parse(pb.ModelMetadataRequest, data)
        version = self._table.resolve(request.name, request.version)
        signature = version.signature
        properties = {f"tidegate.columns.{spec.name}": json.dumps(spec.columns) for spec in signature.inputs if spec.columns}
        properties |= {"tidegate.version": str(version.number), "tidegate.digest": version.digest}
        if signature.classes:
            properties |= {"tidegate.classes": json.dumps(signature.classes), "tidegate.positive": signature.positive}
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in sorted(self._table.model(request.name).versions)],
            platform=PLATFORM,
            inputs=map(_tensor_metadata, signature.inputs),
            outputs=map(_tensor_metadata, signature.outputs),
            properties=properties,
        ).SerializeToString()

    def _model_config(self, data: bytes) -> bytes:
        request = parse(pb.ModelConfigRequest, data)
        table = self._table
        version = table.resolve(request.name, request.version)
        config = model_config.describe(version, table.model(request.name).versions, self._batching)
        return pb.ModelConfigResponse(config=config).SerializeToString()

    def _model_statistics(self, data: bytes) -> bytes:
        request = parse(pb.ModelStatisticsRequest, data)
        versions = self._asked_for(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=model_statistics.describe(self._counters(), versions)).SerializeToString()

    def _asked_for(self, name: str, label: str) -> list[LoadedVersion]:
        """One version, or without a label all loaded versions of the model, or of all models if there is no name either."""
        if label:
            return [self._table.resolve(name, label)]
        table = self._table if name else self._read_table()
        models = [table.model(name) for name in ([name] if name else sorted(table.models))]
        return [model.versions[number] for model in models for number in sorted(model.versions)]

    def _repository_index(self, data: bytes) -> bytes:
        request = parse(pb.RepositoryIndexRequest, data)
        if request.repository_name:
            raise InputMismatchError(f"no repository {request.repository_name[:80]!r}: there is one, and it has no name; leave it empty")
        return repository_index.describe(self._read_table(), ready=request.ready).SerializeToString()

    def _read_table(self) -> RoutingTable:
        """The table, once it tells of everything there is."""
        if not self._table.complete:
            raise ModelLoadingError("the daemon is still reading the registry")
        return self._table

    def _get_drift(self, data: bytes) -> bytes:
        request = parse(monitoring.GetDriftRequest, data)
        version = self._table.resolve(request.model, request.version)
        counts = self._counters().drift.get(version.key)
        if counts is None:
            raise VersionUnknownError(f"version {version.number} of {version.model!r} has no profile: nothing to compare its rows with")
        features = drift.evaluate(counts.profile, counts.observed)
        return monitoring.GetDriftResponse(
            model=version.model, version=str(version.number), rows=counts.rows, features=map(_feature_drift, features)
        ).SerializeToString()


def _refuse(_: bytes) -> bytes:
    """Behind a rule that lets nobody through; here so that no transport serves these calls otherwise."""
    raise PermissionDeniedError("the registry decides what is loaded: `tidegate promote` puts a version in a stage")


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _feature_drift(feature: FeatureDrift) -> monitoring.FeatureDrift:
    return monitoring.FeatureDrift(
        name=feature.name,
        kind=feature.kind,
        bins=feature.bins,
        observed=feature.observed,
        reference=feature.reference,
        psi=feature.psi,
        ks=feature.ks,
        p_value=feature.p_value,
        drifted=feature.drifted,
    )
