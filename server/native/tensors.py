"""Arrays over the memory that Rust shows: nothing is copied but texts, which numpy holds as objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from server.engine import Tensor


def tensor(dtype: np.dtype[Any], memory: Any, shape: Sequence[int]) -> Tensor:
    """A tensor of this shape; the memory of one of objects is a list of them."""
    if isinstance(memory, list):
        return np.fromiter(memory, dtype, len(memory)).reshape(shape)
    return np.ndarray(shape, dtype, memory)
