"""The file-based registry: what was trained, what is served, who decided it and why.

One primitive stands under everything: put a file if it is absent. A model is a numbered log of commits, its state is the fold of that log,
and a bundle (the files of one version) becomes visible with the commit that names it. Start reading here:

values, no I/O
    names         what a model, a version or a file may be called, and where it is stored
    canonical     the one JSON encoding whose digest is stable; fields and times are read by `fields` and `times`
    sealing       the checksum of a JSON object; signing: Ed25519 signatures over it, and whose are trusted
    commit        one numbered entry of a model's log
    route         which versions answer production traffic
    version       a version as the log tells it, and all versions of a model
    state         the fold of a log, a pure function
    rules         what may follow what, a pure function
    checkpoint    a folded state as a file
    manifest      which files a version has, by digest
    bundle        the files a version may have, and their signature
    profile       the drift reference: frozen bins and the counts of the training rows
    drift         PSI, KS and the verdict; significance: its p-values
    drift_limits  from when a change counts as drift
    drift_tally   counts that add up; drift_windows: windows over them, and what lasts
    drift_shown   which features are among the metrics
    alert         an alert as a log notes it
    compare       two versions side by side
    views         states, versions and commits as plain JSON, for people and programs
    errors        the error tree

storage
    store         the seams to storage; disk and local_store keep files durable on a local disk, object_store (and
                  object_errors) on S3, GCS and Azure

operations
    log           reading, keeping and appending to the logs
    blobs         the files; onnx_guard has every ONNX file scanned at the door, by onnx_scan in a child (onnx_guard_child)
    registry      what may be asked and changed
    location      opens a registry from its URL, with keys and a clock
    watch         waiting for a log to grow
    archive       one version as one file
    verify        re-reads everything and names what is wrong; audit does so for one log
    sweep         removes what no commit refers to

`python -m registry` looks at a registry from a shell. The formats are described in docs/formats.

Imports no other folder of the project: daemon, control plane and training share this one and nothing else.
"""
