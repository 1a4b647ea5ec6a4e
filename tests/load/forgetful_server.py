"""A daemon that keeps 64 bytes of every row it serves. The control of the check that the real one keeps nothing of its requests."""

import sys
from collections.abc import Sequence

from server.__main__ import main
from server.engine import Columns, Tensor
from server.onnx_engine import OnnxEngine

KEPT_BYTES = 64
_kept: list[bytes] = []
_run = OnnxEngine.run


def _keeping_run(engine: OnnxEngine, inputs: Columns, outputs: Sequence[str]) -> dict[str, Tensor]:
    _kept.append(b"\1" * (KEPT_BYTES * len(next(iter(inputs.values())))))
    return _run(engine, inputs, outputs)


if __name__ == "__main__":
    OnnxEngine.run = _keeping_run  # type: ignore[method-assign,assignment]
    sys.exit(main())
