"""What the columns of the data must hold, as a pandera schema made from the spec. Returns checked and typed columns; reads nothing."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrors

from training.errors import ColumnValueError
from training.spec import Spec


def validate(frame: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """The same rows with numeric columns as float32 and all others as text.

    Raises:
        ColumnValueError: at the first column whose values its role forbids; names the column, the value and the row.
    """
    checked = _checked(_schema(spec), frame)
    _check_outcome(checked[spec.data.outcome], spec)
    if spec.fairness is not None:
        _check_named("fairness.privileged", spec.fairness.privileged, checked[spec.fairness.attribute])
        _check_named("fairness.favourable", spec.fairness.favourable, checked[spec.data.outcome])
    return checked


def validate_features(frame: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """The same for some rows of which only the features are known; raises as `validate` does, and the frame's index counts the rows."""
    return _checked(pa.DataFrameSchema(_feature_columns(spec)), frame)


def _checked(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> pd.DataFrame:
    try:
        with np.errstate(over="ignore"):  # what 32 bits cannot hold becomes inf, which the schema refuses
            checked: pd.DataFrame = schema.validate(frame)
    except SchemaErrors as errors:  # what does not convert is reported as a list, even when not lazy
        raise ColumnValueError(_one_line(errors.schema_errors[0])) from errors
    except SchemaError as error:
        raise ColumnValueError(_one_line(error)) from error
    return checked


def _feature_columns(spec: Spec) -> dict[str, pa.Column]:
    finite = pa.Check(lambda values: ~np.isinf(values), error="finite numbers, as 32-bit floats")
    columns = {name: pa.Column("float32", finite, nullable=True, coerce=True) for name in spec.data.numeric}
    return columns | {name: pa.Column(str) for name in spec.data.categorical}


def _schema(spec: Spec) -> pa.DataFrameSchema:
    columns = _feature_columns(spec)
    columns[spec.data.outcome] = pa.Column(str, pa.Check(lambda values: values != "", error="a value in every row"))
    if spec.fairness is not None:
        columns[spec.fairness.attribute] = pa.Column(str)
    return pa.DataFrameSchema(columns)


def _check_outcome(outcome: "pd.Series[str]", spec: Spec) -> None:
    values = sorted(outcome.unique())
    if len(values) != 2:  # noqa: PLR2004 - binary classification is what this pipeline does
        shown = ", ".join(map(repr, values[:5])) + (", ..." if len(values) > 5 else "")  # noqa: PLR2004 - as many as fit a line
        raise ColumnValueError(f"the outcome {spec.data.outcome!r} must have exactly two values; it has {len(values)}: {shown}")
    _check_named("data.positive", spec.data.positive, outcome)


def _check_named(key: str, value: str, column: "pd.Series[str]") -> None:
    values = sorted(column.unique())
    if value not in values:
        raise ColumnValueError(f"{key} is {value!r}, but column {column.name!r} holds {', '.join(map(repr, values[:5]))}")


def _one_line(error: SchemaError) -> str:
    name, cases = error.column_name or error.schema.name, error.failure_cases
    expected = getattr(error.check, "error", None) or "numbers"
    if not isinstance(cases, pd.DataFrame) or cases.empty or cases["index"].isna().all():
        return f"column {name!r} does not hold {expected}"
    value, row = cases["failure_case"].iloc[0], int(cases["index"].iloc[0]) + 1
    more = f" (and in {len(cases) - 1} more)" if len(cases) > 1 else ""
    return f"column {name!r} has {str(value)!r} in data row {row}{more}: expected {expected}"
