"""Why an ONNX file may not be registered, found while its bytes stream by. Pure: no process, no file, no limit of time or memory here.

The file is read as what it is on the wire, a protobuf message: field by field, by the table below, which is the public onnx.proto. What
tensors hold is skipped, so that a model of 2 GiB needs no more memory than one of 2 KiB. The `onnx` package is not used: it parses a whole
model into memory before it can say anything, and is no dependency of the registry. Whether a model computes what it should is not asked
here: its golden rows tell that where it is served.

Accepts what protobuf accepts, but for what two readers could understand differently or what nobody writes:

- a known field of another wire type, which protobuf drops in silence;
- groups, which no ONNX message has;
- a length written in more than five bytes, which Python's protobuf reads and ONNX Runtime's refuses;
- EXTERNAL as a tensor's data_location, also if a later field of the same tensor takes it back.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NoReturn, TypeAlias

NESTING = 16
"""How deep graphs may stand in graphs. Exporters go three or four deep. Each level is three messages, of which protobuf allows a hundred,
and twelve Python frames, of which there are a thousand."""
DEPTH = 100
"""How deep messages may stand in the first one: the limit of protobuf in every language unless told otherwise."""
DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft"})
"""The operator domains every build of ONNX Runtime has built in; the first two are one. It knows more by name (com.microsoft.nchwc,
com.ms.internal.nhwc), but puts those into a graph by itself, for the processor it runs on."""
EXPANSION = 20_000
"""How many nodes the functions of a model may come to where they are called. ONNX Runtime writes each call out, which takes about 4 s for
16,000 nodes, and a kilobyte of functions that call one another twice comes to billions."""
_LONGEST_NAME = 1024
_MOST_NAMES, _MOST_CALLS = 10_000, 100_000
_LONGEST_LENGTH = (1 << 31) - 1
_LONGEST_SHOWN = 80
_Operator: TypeAlias = tuple[bytes, bytes]
"""Domain and name."""
_UNKNOWN_END = 1 << 62
_SET = b"set"

MESSAGES: dict[str, str] = {
    "Model": "number 1, bytes 2 3 4 6, int 5, Graph 7, OperatorSet 8, Entry 14, TrainingInfo 20, Function 25, DeviceConfiguration 26",
    "OperatorSet": "bytes 1, int 2",
    "Entry": "bytes 1 2",
    "TrainingInfo": "Graph 1 2, Entry 3 4",
    "DeviceConfiguration": "bytes 1 3, int 2",
    "Function": "name 1 10, bytes 4 5 6 8 13, Node 7, OperatorSet 9, Attribute 11, ValueInfo 12, Entry 14",
    "Graph": "Node 1, bytes 2 10, Tensor 5, ValueInfo 11 12 13, TensorAnnotation 14, SparseTensor 15, Entry 16",
    "Node": "bytes 1 2 3 6 8, name 4 7, Attribute 5, Entry 9, NodeDeviceConfiguration 10",
    "Attribute": "floats 7, ints 8, bytes 1 4 9 13 21, int 3 20, float 2, Tensor 5 10, Graph 6 11, Type 14 15, SparseTensor 22 23",
    "Tensor": "ints 1 5 7 11, int 2, Segment 3, floats 4, doubles 10, bytes 6 8 9 12, ExternalEntry 13, location 14, Entry 16",
    "ExternalEntry": "name 1 2",
    "Segment": "int 1 2",
    "SparseTensor": "Tensor 1 2, ints 3",
    "TensorAnnotation": "bytes 1, Entry 2",
    "ValueInfo": "bytes 1 3, Type 2, Entry 4",
    "Type": "TensorType 1 8, ElementType 4 9, MapType 5, bytes 6, OpaqueType 7",
    "TensorType": "int 1, Shape 2",
    "ElementType": "Type 1",
    "MapType": "int 1, Type 2",
    "OpaqueType": "bytes 1 2",
    "Shape": "Dimension 1",
    "Dimension": "int 1, bytes 2 3",
    "NodeDeviceConfiguration": "bytes 1, Sharding 2, int 3",
    "Sharding": "bytes 1, ints 2, IntList 3, ShardedDimension 4",
    "IntList": "int 1, ints 2",
    "ShardedDimension": "int 1, SimpleSharding 2",
    "SimpleSharding": "int 1 3, bytes 2",
}
"""onnx.proto as of ONNX 1.23: the kinds of the fields of every message, with their numbers. Other fields are skipped, as protobuf does.

Numbers that repeat (ints, floats, doubles) may come one by one or packed. A `name` and a `number` are kept to be judged, a `location` is
judged on sight, a capitalised kind is a message; the rest has nothing to tell.
"""
WIRES = {
    "int": {0},
    "number": {0},
    "location": {0},
    "ints": {0, 2},
    "float": {5},
    "floats": {5, 2},
    "doubles": {1, 2},
    "bytes": {2},
    "name": {2},
}
"""How each kind may come; a message comes as 2."""

# Runs of fields with nothing to tell are skipped by one regular expression for each message: a tree ensemble is an attribute of millions
# of numbers. Nothing follows the repetition, so that nothing is tried twice; what it leaves, as a text too long for it, is read singly.
_PIECE = 1 << 16
_PLAIN = {"floats": 5, "ints": 0, "int": 0, "float": 5, "doubles": 1, "bytes": 2}
_VARINT = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_SHORT = b"(?:" + b"|".join(re.escape(bytes([length])) + b".{%d}" % length for length in range(64)) + b")"
_VALUES = {5: b"....", 0: _VARINT, 1: b"." * 8, 2: _SHORT}
_UNROLLED = 8
_VARINTS = re.compile(rb"(?:[\x00-\x7f]{16,}|" + _VARINT * _UNROLLED + b"|" + _VARINT + b")*", re.DOTALL)


def refusal(chunks: Iterable[bytes], nesting: int = NESTING) -> str | None:
    """Why the ONNX file made of `chunks` is refused, as the rest of a sentence about it; None if it is accepted.

    An accepted file is read to its end; of a refused one the rest is left unread. Holds two chunks at most. What `chunks` raises is raised.
    """
    try:
        _Scan(_Stream(chunks), nesting).model()
    except _RefusedError as error:
        return str(error)
    return None


class _RefusedError(Exception):
    """Carries the reason up from where it was found."""


class _Stream:
    """The bytes not yet read, of which one window is held, and what protobuf makes of them. Places are counted from the first byte."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._window = b""
        self._next = 0
        self._before = 0

    def skim(self, run: re.Pattern[bytes], end: int) -> bool:
        """Skip the longest run from here on; False if that was all up to `end`, True if something else has to be read."""
        while True:
            stop = min(end - self._before, len(self._window), self._next + _PIECE)
            if match := run.match(self._window, self._next, stop):
                self._next = match.end()
            if self._next < stop:
                return True
            if self._before + stop == end:
                return False
            if stop == len(self._window) and not self._more():
                if end == _UNKNOWN_END:
                    return False
                self._cut_off()

    def varint(self, end: int, longest: int = 10) -> int:
        """The number that begins here, in at most `longest` bytes; of its bits protobuf takes 64."""
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004
                break
            if shift == 7 * longest:
                self.malformed(f"a number has more than {longest} bytes")
        self._inside(self._before + self._next, end)
        return value & 0xFFFF_FFFF_FFFF_FFFF

    def after(self, length: int, end: int) -> int:
        """The place after a value of that length."""
        return self._inside(self._before + self._next + length, end)

    def after_length(self, end: int, size: int = 1) -> int:
        """The place after the value whose length stands here, which is made of parts of `size` bytes."""
        length = self.varint(end, 5)
        if length > _LONGEST_LENGTH:
            self.malformed(f"a length is {length}, more than protobuf allows,")
        if length % size:
            self.malformed(f"numbers of {size} bytes are packed into {length} bytes")
        return self.after(length, end)

    def skip(self, stop: int) -> None:
        """Go on to `stop`, holding nothing of what is between."""
        while stop > self._before + len(self._window):
            self._next = len(self._window)
            if not self._more():
                self._cut_off()
        self._next = stop - self._before

    def take(self, stop: int, longest: int) -> bytes:
        """What is between here and `stop`, but no more than `longest` bytes; goes on to `stop`."""
        wanted = min(stop - self._before - self._next, longest)
        while len(self._window) < self._next + wanted:
            if not self._more():
                self._cut_off()
        taken = self._window[self._next : self._next + wanted]
        self.skip(stop)
        return taken

    def malformed(self, what: str) -> NoReturn:
        """Refuse the file for what was read last."""
        raise _RefusedError(f"is not an ONNX model: {what} at byte {self._before + self._next}")

    def _inside(self, place: int, end: int) -> int:
        if place > end:
            self.malformed("a field runs past the end of its message")
        return place

    def _byte(self) -> int:
        if self._next == len(self._window) and not self._more():
            self._cut_off()
        self._next += 1
        return self._window[self._next - 1]

    def _more(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._before += self._next
                self._window = self._window[self._next :] + chunk
                self._next = 0
                return True
        return False

    def _cut_off(self) -> NoReturn:
        size = self._before + len(self._window)
        raise _RefusedError(f"ends in the middle of a field, after {size} bytes: it was cut off, or is not an ONNX model")


@dataclass(frozen=True)
class _Message:
    """One of MESSAGES: its fields by number, and the expression for runs of those with nothing to tell."""

    fields: dict[int, str]
    plain: re.Pattern[bytes]


@cache
def message(name: str) -> _Message:
    """The message of that name, made when first met: most models have few of them."""
    fields = {int(number): kind for kind, *numbers in map(str.split, MESSAGES[name].split(", ")) for number in numbers}
    plain = {wire: [number for number, kind in fields.items() if _PLAIN.get(kind) == wire] for wire in _VALUES}
    runs = [_run(numbers, wire) for wire, numbers in plain.items() if numbers]
    if name == "Attribute":
        runs = [_run([number], _PLAIN[kind]) * _UNROLLED for number, kind in fields.items() if kind in {"floats", "ints"}] + runs
    return _Message(fields, re.compile(b"(?:" + b"|".join(runs) + b")*", re.DOTALL))


def _run(numbers: list[int], wire: int) -> bytes:
    return b"(?:" + b"|".join(_tag(number, wire) for number in numbers) + b")" + _VALUES[wire]


def _tag(number: int, wire: int) -> bytes:
    tag = number << 3 | wire
    return re.escape(bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7]))  # noqa: PLR2004


class _Scan:
    """One reading of one model."""

    def __init__(self, stream: _Stream, nesting: int) -> None:
        self._stream = stream
        self._nesting = nesting
        self._depth = 0
        self._graphs = 0
        self._foreign: dict[_Operator, None] = {}
        self._own: dict[_Operator, Counter[_Operator]] = {}
        self._calls: list[Counter[_Operator]] = [Counter()]
        self._kept = 0

    def model(self) -> None:
        """Read it all, or raise the reason."""
        found = self._fields("Model", _UNKNOWN_END)
        missing = [what for number, what in ((1, "ir_version"), (7, "graph"), (8, "opset_import")) if not found.get(number)]
        if missing:
            raise _RefusedError(f"is not an ONNX model: it has no {' and no '.join(missing)}")
        self._check_expansion()
        for domain, operator in self._foreign:
            if (domain, operator) not in self._own:
                raise _RefusedError(
                    f"uses the operator {_shown(operator)} of the domain {_shown(domain)}, which ONNX Runtime does not have built in: "
                    "export it with standard operators, or define this one as a function of the model"
                )

    def _fields(self, name: str, end: int) -> dict[int, bytes]:
        known, found, stream = message(name), dict[int, bytes](), self._stream
        while stream.skim(known.plain, end):
            tag = stream.varint(end, 5)
            number, wire = tag >> 3, tag & 7
            if tag >> 32 or not number:
                stream.malformed(f"there is no field number {number}, but one")
            kind = known.fields.get(number, "")
            if kind and wire not in WIRES.get(kind, {2}):
                stream.malformed(f"field {number} of {name} has wire type {wire}")
            value = self._value(kind, wire, end)
            if kind:
                found[number] = value
        return found

    def _value(self, kind: str, wire: int, end: int) -> bytes:
        stream = self._stream
        if wire == 0:
            value = stream.varint(end)
            if kind == "location" and value & 0xFFFF_FFFF == 1:
                _refuse_external(b"")
            return _SET if value else b""
        if wire in {1, 5}:
            stream.skip(stream.after(8 if wire == 1 else 4, end))
        elif wire == 2:  # noqa: PLR2004
            return self._sized(kind, end)
        else:
            stream.malformed(f"there is a wire type {wire}, which no ONNX message has,")
        return _SET

    def _sized(self, kind: str, end: int) -> bytes:
        stream = self._stream
        stop = stream.after_length(end, {"floats": 4, "doubles": 8}.get(kind, 1))
        if kind in MESSAGES:
            self._enter(kind, stop)
        elif kind == "name":
            return stream.take(stop, _LONGEST_NAME + 1)
        elif kind == "ints":
            while stream.skim(_VARINTS, stop):
                stream.varint(stop)
        else:
            stream.skip(stop)
        return _SET

    def _enter(self, name: str, end: int) -> None:
        graph = name == "Graph"
        if name == "Function":
            self._calls.append(Counter())
        self._depth += 1
        self._graphs += graph
        if self._depth > DEPTH:
            self._stream.malformed(f"messages are nested more than {DEPTH} deep, where protobuf ends,")
        if self._graphs > self._nesting + 1:
            raise _RefusedError(
                f"has subgraphs nested more than {self._nesting} deep: export it with fewer If, Loop and Scan in one another"
            )
        self._judge(name, self._fields(name, end))
        self._depth -= 1
        self._graphs -= graph

    def _judge(self, name: str, found: dict[int, bytes]) -> None:
        if name == "ExternalEntry":
            _refuse_external(found.get(2, b"") if found.get(1) == b"location" else b"")
        elif name == "Node":
            self._called(_name(found, 7), _name(found, 4))
        elif name == "Function":
            # Two of one name differ in their overload, which nobody calls by: they count as one that does what both do.
            function = _standard(_name(found, 10)), _name(found, 1)
            self._own[function] = self._own.get(function, Counter()) + self._calls.pop()
        if len(self._foreign) + len(self._own) > _MOST_NAMES:
            raise _RefusedError(f"uses or defines more than {_MOST_NAMES} operators of other domains than those ONNX Runtime has built in")

    def _called(self, domain: bytes, operator: bytes) -> None:
        """Take note of a node, in the function or in the graph that it stands in."""
        if domain not in DOMAINS:
            self._foreign[domain, operator] = None
        calls, called = self._calls[-1], (_standard(domain), operator)
        self._kept += called not in calls
        calls[called] += 1
        if self._kept > _MOST_CALLS:
            raise _RefusedError(f"has functions that call more than {_MOST_CALLS} others in all")

    def _check_expansion(self) -> None:
        """Refuse functions that ONNX Runtime, which writes every call out, would make a graph of without end."""
        known: dict[_Operator, int] = {}
        total = sum(times * self._size(called, known, ()) for called, times in self._calls[0].items() if called in self._own)
        if total > EXPANSION:
            raise _RefusedError(
                f"comes to more than {EXPANSION} nodes when its functions are written out: let them call one another less often"
            )

    def _size(self, function: _Operator, known: dict[_Operator, int], within: tuple[_Operator, ...]) -> int:
        """How many nodes one call comes to; any number above the limit if it is above it."""
        if function in within or len(within) == DEPTH:
            raise _RefusedError(f"has functions that call one another without end, or more than {DEPTH} deep: {_shown(function[1])}")
        if function not in known:
            size = 0
            for called, times in self._own[function].items():
                size += times * (self._size(called, known, (*within, function)) if called in self._own else 1)
            known[function] = min(size, EXPANSION + 1)
        return known[function]


def _standard(domain: bytes) -> bytes:
    """The domain by one name: the standard one has two."""
    return b"" if domain == b"ai.onnx" else domain


def _name(found: dict[int, bytes], number: int) -> bytes:
    name = found.get(number, b"")
    if len(name) > _LONGEST_NAME:
        raise _RefusedError(f"names an operator or a domain with more than {_LONGEST_NAME} bytes: {_shown(name)}...")
    return name


def _refuse_external(file: bytes) -> NoReturn:
    named = f" ({_shown(file)})" if file else ""
    raise _RefusedError(f"keeps weights in another file{named}: save it with all tensors inside, as onnx.save(onnx.load(path), path) does")


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace")[:_LONGEST_SHOWN])
