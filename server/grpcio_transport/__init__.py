"""The transport in pure Python on grpcio: the reference, always there.

`transport` is the pipeline. `tensors`, `router`, `admission`, `batcher`, `drift` and `counters` are its steps,
`grpc_errors` its table of statuses, `auth` says who calls, `options` what a connection may be.
"""
