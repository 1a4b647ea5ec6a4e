"""`python -m server`: read the flags, start the daemon, wait for a signal, drain; or, with `--replicas`, be the parent of several."""

import gc
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence

import structlog

from server import flags, listeners, replica, standard_files
from server.errors import ServerError
from server.replica import Seat
from server.settings import Settings, read_settings

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_REPLICA_SIGNALS = {replica.LISTEN_SIGNAL, replica.LEAVE_SIGNAL, replica.ORPHANED_SIGNAL}
_IN_A_LIBRARY = ("batcher-", "loader", "follower")
_COLLECT_SECONDS = 5.0
_FULL_COLLECTION = 60
_LEAVE_MARGIN = 1.2
"""A connection is asked to go when its age is up, give or take a tenth."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    standard_files.open_missing()
    arguments = list(sys.argv[1:] if argv is None else argv)
    given = dict(flags.parse(arguments))
    config = given.pop("config", None)
    try:
        seat = replica.parse_seat(given.pop("replica")) if "replica" in given else None
        _configure_log(seat)
        settings = read_settings(given, config)
        if settings.replicas > 1 and seat is None:
            from server import replicas  # noqa: PLC0415 -- asyncio is for the parent alone

            return replicas.run(settings, arguments)
        return _serve_as_replica(settings, seat) if seat else _serve(settings)
    except ServerError as error:
        print(f"tidegate serve: {error}", file=sys.stderr)  # noqa: T201 -- one line for the person who typed it
        return 2


def _serve(settings: Settings) -> int:
    _block(_STOP_SIGNALS)
    metrics = listeners.listen(settings.metrics_address, "--metrics-address")
    # Imported when the settings are known to be good: a typing error is answered at once, not after grpc and onnxruntime have loaded.
    from server import app  # noqa: PLC0415

    _spare_the_collector()
    daemon = app.build(settings, metrics, lambda _: _look_at_what_is_new())
    address = daemon.listen()
    daemon.load()
    daemon.metrics.start()
    metrics_address = listeners.address_of(metrics, settings.metrics_address)
    standard_files.announce(f"daemon listening on {address}, metrics on http://{metrics_address}/metrics")
    signal.sigwait(_STOP_SIGNALS)
    _end_at_once_when_told_again()
    daemon.stop(settings.drain_delay)
    return _ended()


def _serve_as_replica(settings: Settings, seat: Seat) -> int:
    _block(_STOP_SIGNALS | _REPLICA_SIGNALS)
    from server import app  # noqa: PLC0415 -- see above

    _spare_the_collector()
    daemon = app.build(settings, seat.metrics_listener(), _report)
    replica.obey(scrape=daemon.metrics.start)
    daemon.load()
    if signal.sigwait(_STOP_SIGNALS | _REPLICA_SIGNALS) != replica.LISTEN_SIGNAL:
        daemon.stop(0.0)
        return _ended()
    daemon.listen()
    replica.report(replica.LISTENING)
    leaves = signal.sigwait(_STOP_SIGNALS | _REPLICA_SIGNALS) == replica.LEAVE_SIGNAL
    if leaves:
        daemon.leave(settings.connection_age * _LEAVE_MARGIN, _is_told_to_stop)
    _end_at_once_when_told_again()
    daemon.stop(0.0 if leaves else settings.drain_delay)
    return _ended()


def _ended() -> int:
    """The exit code; while a thread runs a model, loads or reads, the end itself: torn down in a library it would abort the process."""
    if any(thread.name.startswith(_IN_A_LIBRARY) for thread in threading.enumerate()):
        os._exit(0)
    return 0


def _spare_the_collector() -> None:
    """Serving makes no reference cycles, and looking for them was a quarter of a small request: look at set times, and not at modules."""
    gc.collect()
    gc.freeze()
    gc.disable()
    threading.Thread(target=_collect, name="collector", daemon=True).start()


def _collect() -> None:
    # What is new every few seconds, which is little; everything seldom, as that holds all threads up.
    for turn in itertools.count(1):
        time.sleep(_COLLECT_SECONDS)
        gc.collect(2 if turn % _FULL_COLLECTION == 0 else 1)


def _look_at_what_is_new() -> None:
    # Once something was loaded, which makes most of it: at its set time it would hold up, by some 20 ms, those who ask by then.
    gc.collect(1)


def _report(ready: bool) -> None:  # noqa: FBT001 -- called with what it tells
    _look_at_what_is_new()
    replica.report(replica.READY if ready else replica.LOADED)


def _block(signals: Iterable[signal.Signals]) -> None:
    # Blocked before any thread starts and then waited for: a handler could run while this thread holds the very lock it needs.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would print a second line for what we say in one


def _is_told_to_stop(seconds: float) -> bool:
    return signal.sigtimedwait(_STOP_SIGNALS | {replica.ORPHANED_SIGNAL}, seconds) is not None


def _end_at_once_when_told_again() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _configure_log(seat: Seat | None) -> None:
    # A plain traceback: the fine one that is the default shows the values of variables, which are rows and tokens of callers.
    for_people: list[structlog.typing.Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    for_machines: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            *([_numbered(seat.number)] if seat else []),
            *(for_people if standard_files.logs_to_terminal() else for_machines),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Log(),
    )


class _Log:
    """What structlog writes its lines to."""

    def msg(self, line: str) -> None:
        """Write a line."""
        standard_files.log(line)

    debug = info = warning = error = critical = exception = msg


def _numbered(number: int) -> structlog.typing.Processor:
    return lambda _logger, _method, event: {**event, "replica": number}


if __name__ == "__main__":
    sys.exit(main())
