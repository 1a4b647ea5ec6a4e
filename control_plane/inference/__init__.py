"""The Open Inference Protocol over REST: decode a request, ask a daemon by gRPC, encode its answer. Nothing is computed here.

daemons     which daemon is asked
tensors     the values of one tensor: JSON to the protocol's bytes, and back
rest        whole requests and answers: JSON, and the binary tensor data extension
routes      the calls
"""
