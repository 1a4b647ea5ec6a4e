"""What the server answers, and the labels it is told, as frozen values. How they are read from messages stands in `messages`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from tidegate_client.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output of a model."""

    name: str
    datatype: str
    """BOOL, UINT8 ... INT64, FP16, FP32, FP64 or BYTES"""
    shape: tuple[int, ...]
    """-1 where any size is accepted."""


@dataclass(frozen=True)
class Columns:
    """The columns a model packs into its inputs `numeric` and `categorical`, in order."""

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.numeric + self.categorical


@dataclass(frozen=True)
class ModelMetadata:
    """Inputs, outputs and versions of a model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    columns: Columns | None = None
    """None for a model that takes tensors only."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the probabilities; empty if the model has none, or does not tell."""
    positive: str | None = None
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """As the server sent them."""


@dataclass(frozen=True)
class ServerMetadata:
    """Name, version and protocol extensions of the server."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one `predict`."""

    model: str
    version: str
    """The version that answered."""
    id: str
    """The prediction id: feedback refers to it."""
    outputs: Mapping[str, Array]
    """Read-only arrays by output name, rows along the first axis. BYTES is an object array of str."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the probabilities; empty if unknown."""

    def __getitem__(self, output: str) -> Array:
        """One output by its name.

        Raises:
            InputError: if the answer has no such output.
        """
        if output not in self.outputs:
            raise InputError(f"no output {output!r} in the answer of {self.model!r}; it has: {', '.join(self.outputs) or 'none'}")
        return self.outputs[output]

    def frame(self, index: Any = None) -> "pd.DataFrame":
        """The outputs as a pandas data frame: one row per row sent, `index` as its index.

        An output of several columns becomes `<output>_<class>`, or `<output>_<number>` where the classes are unknown.

        Raises:
            InputError: if pandas is missing, or an output has more than two dimensions.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - optional, and costs most of a second
        except ImportError:
            raise InputError("frame() needs pandas: pip install 'tidegate-client[pandas]'") from None
        columns = {name: column for output in self.outputs for name, column in self._flat(output).items()}
        return pd.DataFrame(columns, index=index)

    def _flat(self, output: str) -> dict[str, Array]:
        values = self.outputs[output]
        if values.ndim <= 1:
            return {output: np.atleast_1d(values)}
        if values.ndim > 2:  # noqa: PLR2004 - rows and columns
            raise InputError(f"output {output!r} has {values.ndim} dimensions and does not fit a frame: use outputs[{output!r}]")
        width = values.shape[1]
        if width == 1:
            return {output: values[:, 0]}
        labels = self.classes if len(self.classes) == width else range(width)
        return {f"{output}_{label}": values[:, i] for i, label in enumerate(labels)}


@dataclass(frozen=True)
class FeatureDrift:
    """Counts of one feature in the bins its profile froze, and what they amount to."""

    name: str
    kind: str
    """`numeric`, `categorical` or `prediction`"""
    bins: tuple[str, ...]
    observed: tuple[int, ...]
    reference: tuple[int, ...]
    psi: float
    ks: float | None
    """None where the bins have no order."""
    p_value: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """The drift of the traffic one version answered, since the daemon loaded it."""

    model: str
    version: str
    rows: int
    features: tuple[FeatureDrift, ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)


@dataclass(frozen=True)
class Label:
    """What turned out to be true of one row of a prediction."""

    prediction_id: str
    """`Prediction.id`"""
    label: str | SupportsFloat
    """The name of a class as text; a number for a model without classes."""
    row: int = 0
    """Which row of that prediction, from 0."""
    observed: datetime | float | None = None
    """When it was known: with a time zone, or in seconds since 1970; None for now. Of several labels of a row the last known holds."""


@dataclass(frozen=True)
class RefusedLabel:
    """A label that was not kept."""

    index: int
    """Its place among those sent, from 0."""
    reason: str


@dataclass(frozen=True)
class Receipt:
    """What became of the labels of one call."""

    recorded: int
    """Kept: on the server's disk."""
    duplicate: int
    """Stood among those sent twice; kept once."""
    refused: int
    refusals: tuple[RefusedLabel, ...]
    """The first refused ones; a server tells at most 100."""
