"""The wire contract: Python generated from the .proto files, and the private descriptor pool it registers in.

Import the modules: `inference_pb2`, `inference_pb2_grpc`, `monitoring_pb2`, `monitoring_pb2_grpc`, and `pool` for reflection.
Nothing here knows how a message is filled or answered.
"""
