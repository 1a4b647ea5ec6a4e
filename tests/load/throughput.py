"""How many requests a second: of one row against bare servers and other projects' servers, of 64 rows against ONNX Runtime alone."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from registry.bundle import NUMERIC
from server.engine import Columns
from server.onnx_engine import OnnxEngine
from tests.certificates import LOCAL, authority, issued
from tests.load import figures, h2load, loads, messages, peers, programs
from tests.load.figures import Figure
from tests.load.lab import BOOSTING, LOGISTIC, TURNS, UNPROFILED, Lab, reconciled, target
from tests.load.loads import LoadError, Target
from tests.load.peers import Peer
from tests.load.programs import Served, cores, on_cores
from tests.load.turns import Side
from tidegate_protos import inference_pb2 as pb

ROWS = 64
DIFFERENT_BATCHES = 500
GATHERED_ROWS = 1024
KSERVE, MLSERVER = "KServe", "MLServer"
MULTIPLES = {"native": {KSERVE: 50.0}, "grpcio": {KSERVE: 2.3, MLSERVER: 3.6}}
"""How many times the rate of others ours must be"""
TLS_TURNS = 10


def one_row(lab: Lab) -> Iterator[Figure]:
    """Requests of one row for the logistic regression: the daemon and bare servers turn by turn, then the peers."""
    with lab.daemon() as served:
        ours = lab.target(served)
        lab.say("1-row requests: the daemon and bare servers")
        with programs.echo(lab.room, ours.answer_bytes[0]) as echo, programs.bare_http2(lab.room, ours.answer_bytes[0]) as bare:
            others = [Side(other, replace(ours, address=other.address)) for other in (echo, bare)]
            turns = lab.alternate(Side(served, ours), *others)
        yield turns.figure("1-row requests, 128 in flight", 0, "every answer counted by the daemon too")
        yield turns.figure("  a bare HTTP/2 server in Rust, as many bytes", 2)
        yield turns.figure("  a bare grpcio server, as many bytes", 1)
        multiple = turns.rates(0, 1).median
        if lab.is_native:
            yield turns.multiple(figures.at_least("  the daemon's multiple of that", multiple, "x", 15), 0, 1)
        else:
            yield figures.at_least("  the daemon's share of that", 100 * multiple, "%", 60)
        for name, bar in MULTIPLES[lab.transport].items():
            make = peers.kserve if name == KSERVE else peers.mlserver
            yield from _against(lab, Side(served, ours), make(lab.trained[LOGISTIC], lab.room), bar)
        lab.say("1-row requests: the daemon, asked by h2load")
        yield Figure("1-row requests, 128 in flight, asked by h2load", _by_h2load(served, ours, lab.seconds), "/s")


def _by_h2load(served: Served, ours: Target, seconds: float) -> float:
    """Another program's word for the rate, which the daemon's counters confirm as well."""
    before = served.counted("tidegate_requests_total", code="OK")
    measured = h2load.rate(ours, seconds)
    time.sleep(0.1)
    seen = served.counted("tidegate_requests_total", code="OK") - before
    if seen != (expected := measured.requests + h2load.PILOT_REQUESTS):
        raise LoadError(f"h2load counts {expected} answers; the daemon {seen:.0f}")
    return measured.rate


def _against(lab: Lab, ours: Side, peer: Peer, bar: float) -> Iterator[Figure]:
    if peer.missing:
        yield Figure(f"  {peer.name}", float("nan"), "/s", f"at most 1 / {bar:g} of ours", met=False, note=peer.missing)
        return
    rates, label = {}, _label(ours.served, ours.target)
    for way in peer.commands:
        lab.say(f"1-row requests: {peer.name}, {way}")
        with peer.start(way, lab.room) as theirs:
            if _label(theirs, ours.target) != label:
                raise LoadError(f"{peer.name} answers otherwise than the daemon: what it serves is not the same model")
            rates[way] = lab.alternate(Side(theirs, target(theirs, *ours.target.messages)), number=1).rate(0)
    best = max(rates, key=lambda way: rates[way])
    lab.say(f"1-row requests: the daemon and {peer.name}, {best}")
    with peer.start(best, lab.room) as theirs:
        turns = lab.alternate(ours, Side(theirs, target(theirs, *ours.target.messages)))
    yield turns.figure(f"  {peer.name}", 1, ", ".join(f"{way} {rates[way]:,.0f}" for way in rates))
    multiple = figures.at_least(f"  the daemon's multiple of {peer.name}", turns.rates(0, 1).median, "x", bar)
    yield turns.multiple(multiple, 0, 1)


def _label(served: Served, asked: Target) -> bytes:
    """What is predicted for the row of a target: the first output of all these servers."""
    answer = programs.infer(served, asked.messages[0])
    return bytes(pb.ModelInferResponse.FromString(answer).raw_output_contents[0])


def many_rows(lab: Lab) -> Iterator[Figure]:
    """Requests of 64 rows for gradient boosting of 100 trees, beside ONNX Runtime that is given the same rows in the same order.

    And beside what a server in Rust that only echoes, and ONNX Runtime after it, take for each request together.
    """
    bar = 85 if lab.is_native else 35
    for what, number in (("the same rows again and again", 1), ("other rows each time", DIFFERENT_BATCHES)):
        batches = [messages.rows(ROWS, seed) for seed in range(number)]
        gathered = [{NUMERIC: messages.rows(GATHERED_ROWS, seed)} for seed in range(number)]
        with lab.daemon() as served:
            asked = target(served, *(messages.request(BOOSTING, rows) for rows in batches))
            with programs.bare_http2(lab.room, asked.answer_bytes[1]) as bare:
                echoed = replace(asked, address=bare.address, answer_bytes=(asked.answer_bytes[1],) * 2)
                seen = []
                for _ in range(TURNS):
                    lab.say(f"64-row requests, {what}: the daemon, ONNX Runtime in process, and a bare HTTP/2 server")
                    outcome = reconciled(served, asked, lab.seconds)
                    alone = _in_process(lab, [{NUMERIC: rows} for rows in batches])
                    echo = loads.rate(echoed, lab.seconds).rate * ROWS
                    after = 1 / (1 / alone + 1 / echo)
                    ours, large = outcome.rate * ROWS, _in_process(lab, gathered)
                    seen.append((ours, alone, ours / alone, large, after / alone, outcome.share_of_core))
        ours, alone, share, large, after, load = (statistics.median(values) for values in zip(*seen, strict=True))
        note = f"the load took {100 * load:.0f} % of its core"
        yield Figure(f"64-row requests, boosting of 100 trees, {what}", ours, "rows/s", note=note)
        yield Figure("  ONNX Runtime in process, these rows", alone, "rows/s", note=f"{large:,.0f} in batches of {GATHERED_ROWS:,} rows")
        note = f"{100 * after:.0f} % if each request took what it takes a bare HTTP/2 server, and then ONNX Runtime"
        yield figures.at_least("  the daemon's share of that", 100 * share, "%", bar, note)


def _in_process(lab: Lab, batches: Sequence[Columns]) -> float:
    """Rows a second of ONNX Runtime on the server's core, given these batches by turns."""
    engine = OnnxEngine(lab.trained[BOOSTING].raw, threads=1)
    outputs = [spec.name for spec in engine.signature.outputs]
    with on_cores(cores()[0]):
        engine.run(batches[0], outputs)
        start, runs = time.perf_counter(), 0
        while (taken := time.perf_counter() - start) < lab.seconds:
            engine.run(batches[runs % len(batches)], outputs)
            runs += 1
    return runs * len(batches[0][NUMERIC]) / taken


def encrypted(lab: Lab) -> Iterator[Figure]:
    """The same requests by TLS and without."""
    root = authority("bench authority")
    chain, key = issued(root, "bench", LOCAL).write(lab.room, f"server-{lab.transport}")
    authorities = root.write(lab.room, f"authority-{lab.transport}")[0]
    lab.say("TLS and plaintext")
    with lab.daemon({"tls-cert": str(chain), "tls-key": str(key)}, authorities=authorities) as safe, lab.daemon() as plain:
        turns = lab.alternate(
            *(Side(served, lab.target(served, UNPROFILED)) for served in (safe, plain)), number=TLS_TURNS, seconds=lab.seconds / 2
        )
    yield turns.figure("1-row requests by TLS", 0)
    note = f"{turns.rate(1):,.0f} /s without"
    yield turns.multiple(figures.at_least("  share of plaintext", 100 * turns.rates(0, 1).median, "%", 60, note), 0, 1)
