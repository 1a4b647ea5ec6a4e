"""The control plane: REST over the registry, and the Open Inference Protocol's REST calls forwarded to the daemon.

It keeps nothing of its own: its state is the registry, so that two of them can run, and serving goes on without any.

    settings        what can be set; `__main__` reads it and runs the program
    app             where the objects of the program are wired
    http_errors     which HTTP status every error has, and how it is written
    registry_pool   registry instances for the threads that answer requests
    access_log      one line and one count for each request
    metrics         what Prometheus scrapes
    models          models, versions, states, logs and cards: everything that reads
    promotions      promotions and rollbacks: everything that writes
    drift           the drift that all daemons counted, and the references to compare it with
    quality         labels in, and what versions were worth by those that came
    alerts          what Alertmanager tells, noted in the logs of the models, and read from there
    inference       /v2: JSON and binary tensors in, gRPC to the daemon, and back
    console         the page for people at /
"""
