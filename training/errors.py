"""The error tree of training. Every text is one line that says what was wrong and what to do.

TrainingError
├── SpecError             a spec file that is missing, is not TOML, or asks for something that does not exist
├── DataError
│   ├── DataFileError     a data file that is missing, of an unexpected type, or unreadable
│   ├── ColumnMissingError
│   └── ColumnValueError  a column that holds what its role forbids, such as text where numbers belong
├── ModelFileError        a model.onnx that does not load, or is not what its signature says
├── ParityError           ONNX Runtime and scikit-learn answer differently
└── TrackingError         the experiment tracker could not be opened
"""


class TrainingError(Exception):
    """Anything training refuses; nothing was registered for the candidate at hand."""


class SpecError(TrainingError):
    """The spec file cannot be read, or what it says makes no sense."""


class DataError(TrainingError):
    """The data are not what the spec says."""


class DataFileError(DataError):
    """The data file is missing, of an unexpected type, or unreadable."""


class ColumnMissingError(DataError):
    """The data file lacks columns that the spec names."""


class ColumnValueError(DataError):
    """A column holds values that its role forbids."""


class ModelFileError(TrainingError):
    """A model file does not load, or takes and gives other tensors than its signature says."""


class ParityError(TrainingError):
    """The exported model does not answer as the fitted one does."""


class TrackingError(TrainingError):
    """The experiment tracker could not be opened or closed."""
