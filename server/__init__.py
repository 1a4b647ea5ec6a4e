"""The daemon: serves the models of a registry on the Open Inference Protocol by gRPC, in dynamic batches, and counts drift as it serves.

The life of a request, each step callable with plain arrays:

    transport  ->  tensors.decode  ->  router.pick  ->  admission.admit  ->  batcher.submit  ->  engine.run  ->  tensors.encode

The life of a change: follower sees a commit -> loads and checks versions -> installs one immutable RoutingTable. Wiring stands in `app`.
"""
