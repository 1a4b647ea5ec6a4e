"""How many requests a second: of one row against a bare gRPC server and other projects' servers, of 64 rows against ONNX Runtime alone."""

import time
from collections.abc import Iterator

from registry.bundle import NUMERIC
from server.onnx_engine import OnnxEngine
from tests.load import figures, h2load, messages, peers, programs
from tests.load.figures import Figure
from tests.load.lab import BOOSTING, LOGISTIC, TURNS, Lab, reconciled
from tests.load.peers import Peer
from tests.load.programs import cores, on_cores
from tidegate_protos import inference_pb2 as pb

ROWS = 64
DIFFERENT_BATCHES = 500


def one_row(lab: Lab) -> Iterator[Figure]:
    """Requests of one row for the logistic regression: the daemon and the bare server turn by turn, then the peers."""
    with lab.daemon() as served:
        ours = lab.target(served)
        lab.say("1-row requests: the daemon's counters beside h2load's")
        reconciled(served, ours, lab.seconds)
        with programs.echo(lab.room, ours.answer_bytes) as echo:
            lab.say("1-row requests: the daemon and a bare gRPC server")
            rate, bare, share = lab.alternate(ours, h2load.Target(echo.address, ours.message, ours.answer_bytes))
        yield Figure("1-row requests, 128 in flight", rate, "/s", note="every answer counted by the daemon too")
        yield Figure("  a bare grpcio server, as many bytes", bare, "/s")
        yield figures.at_least("  the daemon's share of that", 100 * share, "%", 60)
        for peer in (peers.kserve(lab.trained[LOGISTIC], lab.room), peers.mlserver(lab.trained[LOGISTIC], lab.room)):
            yield from _against(lab, ours, peer)


def _against(lab: Lab, ours: h2load.Target, peer: Peer) -> Iterator[Figure]:
    if peer.missing:
        yield Figure(f"  {peer.name}", float("nan"), "/s", f"at most 1 / {peer.bar:g} of ours", met=False, note=peer.missing)
        return
    rates, label = {}, _label(ours)
    for way in peer.commands:
        lab.say(f"1-row requests: {peer.name}, {way}")
        with peer.start(way, lab.room) as theirs:
            target = lab.target(theirs)
            if _label(target) != label:
                raise h2load.LoadError(f"{peer.name} answers otherwise than the daemon: what it serves is not the same model")
            rates[way] = h2load.rate(target, lab.seconds).rate
    best = max(rates, key=lambda way: rates[way])
    lab.say(f"1-row requests: the daemon and {peer.name}, {best}")
    with peer.start(best, lab.room) as theirs:
        _, rate, ratio = lab.alternate(ours, lab.target(theirs))
    yield Figure(f"  {peer.name}", rate, "/s", note=", ".join(f"{way} {rates[way]:,.0f}" for way in rates))
    yield figures.at_least(f"  the daemon's multiple of {peer.name}", ratio, "x", peer.bar)


def _label(target: h2load.Target) -> bytes:
    """What is predicted for the row of a target: the first output of all these servers."""
    answer = programs.infer(target.address, target.message)
    return bytes(pb.ModelInferResponse.FromString(answer).raw_output_contents[0])


def many_rows(lab: Lab) -> Iterator[Figure]:
    """Requests of 64 rows for gradient boosting of 100 trees."""
    with lab.daemon() as served:
        target = lab.target(served, BOOSTING, ROWS)
        pairs = []
        for _ in range(TURNS):
            lab.say("64-row requests: the daemon and ONNX Runtime in process")
            rate = reconciled(served, target, lab.seconds).rate * ROWS
            pairs.append((rate, _in_process(lab, ROWS, 1), _in_process(lab, ROWS, DIFFERENT_BATCHES)))
    ours, alone, different = (sorted(rates)[len(rates) // 2] for rates in zip(*pairs, strict=True))
    yield Figure("64-row requests, boosting of 100 trees", ours, "rows/s")
    yield Figure("  ONNX Runtime in process, the same 64 rows again and again", alone, "rows/s")
    yield figures.at_least("  the daemon's share of that", 100 * ours / alone, "%", 35)
    # The processor learns the branches that 64 rows take through the trees: no traffic is like that.
    yield Figure(
        "  ONNX Runtime in process, other rows each time", different, "rows/s", note=f"the daemon's share {100 * ours / different:.0f} %"
    )


def _in_process(lab: Lab, rows: int, number: int) -> float:
    """Rows a second of ONNX Runtime on this core, in batches of `rows`, of which `number` different ones take turns."""
    engine, batches = OnnxEngine(lab.trained[BOOSTING].raw, threads=1), [{NUMERIC: messages.rows(rows, seed)} for seed in range(number)]
    outputs = [spec.name for spec in engine.signature.outputs]
    with on_cores(cores()[0]):
        engine.run(batches[0], outputs)
        start, runs = time.perf_counter(), 0
        while (taken := time.perf_counter() - start) < lab.seconds:
            engine.run(batches[runs % number], outputs)
            runs += 1
    return runs * rows / taken
