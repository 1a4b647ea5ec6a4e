"""The transport in pure Python on grpcio: the reference, always there.

`transport` listens and drains, `calls` is the table of all calls, `direct` how grpcio carries them without a thread each, `exchange` what
is seen of one. `pipeline` takes a request through its steps: `auth`, `tensors` and `parameters`, `router`, `admission`, `batcher` with
its `fair_queue` and `pace`; `drift` and `counters` are beside it. `grpc_errors` is the table of statuses, `options` what a connection may
be.
"""
