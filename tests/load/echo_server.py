"""The control: a bare synchronous gRPC server, bytes in, bytes out. What it reaches is what grpcio leaves to a server that does nothing.

`python -m tests.load.echo_server BYTES` answers every ModelInfer with that many bytes.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE, METHOD = "inference.GRPCInferenceService", "ModelInfer"
THREADS = 16


def main() -> None:
    answer = bytes(int(sys.argv[1]))

    def echo(_: bytes, __: grpc.ServicerContext) -> bytes:
        return answer

    server = grpc.server(ThreadPoolExecutor(THREADS))
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server.start()
    print(f"echo listening on 127.0.0.1:{port}", flush=True)
    signal.sigwait([signal.SIGTERM])
    server.stop(0).wait()


if __name__ == "__main__":
    main()
