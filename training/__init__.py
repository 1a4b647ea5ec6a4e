"""From a spec file to registered versions: everything that happens before a model is served.

Read top to bottom it is a pipeline of values:

    spec            the spec file, checked (pydantic)
    source          the columns of a data file, read by DuckDB, whole or in chunks
    dataset         rows as arrays, split into training and held-out
    validation      what the columns must hold (pandera)
    features        the scikit-learn pipeline over two packed inputs
    search          a seeded search for the parameters of one candidate (optuna)
    evaluation      metrics of the held-out rows, with bootstrap intervals
    fairness        group fairness of the held-out rows (AIF360)
    onnx_export     ONNX bytes, what ONNX Runtime answers, parity with scikit-learn
    importance      how much each input matters to the held-out AUC
    drift_profile   the reference that served rows are compared with, exact or by sketches
    charts, cards   the model card and the data card, as data
    provenance      which code, packages and data made a version
    tracking        the seam to experiment tracking; comet_tracker implements it
    bundle_builder  all of the above as the files of one version
    pipeline        the steps in order, for every candidate of a spec
    errors          the error tree

Imports the registry and no other folder. Slow third parties (comet_ml, aif360, altair) are imported by the function that needs them.
"""
