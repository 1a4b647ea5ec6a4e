"""The parent of several replicas: starts them on one port, starts again what dies, replaces one after the other on SIGHUP, ends them all.

It answers no request and imports neither grpc nor a model. How long it waits before a restart is decided in `restarts`, what it says to a
replica stands in `replica`, and how a replica leaves the port in `handover`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

import structlog

from server import listeners, replica, standard_files
from server.errors import SettingsError
from server.replica import Seat
from server.restarts import Restarts
from server.settings import HIGHEST_PORT, Settings

READY_SECONDS = 600.0
"""A replacement that has not loaded every model by then is given up, and the replica it was to replace stays."""

_EXPLAINED = 2
"""The exit code of a replica that has said in one line why it does not start."""

_log = structlog.get_logger("tidegate.replicas")


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Run `settings.replicas` daemons with `arguments` until SIGTERM or SIGINT; returns 0 if every one of them drained.

    Raises:
        SettingsError: if an address is taken.
    """
    if sys.platform != "linux":
        raise SettingsError("--replicas needs Linux, which spreads the connections of one port over processes")
    hold, grpc_address = listeners.reserve(settings.grpc_address)
    command = [*arguments, "--replicas", str(settings.replicas), "--grpc-address", grpc_address]
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold)
        metrics = [stack.enter_context(listeners.listen(address, "--metrics-address")) for address in _metrics_addresses(settings)]
        slots = [Slot(number, command, listener) for number, listener in enumerate(metrics)]
        urls = ", ".join(f"http://{listeners.address_of(listener, settings.metrics_address)}/metrics" for listener in metrics)
        return asyncio.run(_run(slots, f"{len(slots)} replicas listening on {grpc_address}, metrics on {urls}"))


class Running:
    """One process of a replica, and what it has said."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.started = time.monotonic()
        self.loaded, self.ready, self.listening = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended = asyncio.create_task(self._follow())

    def tell(self, line: bytes) -> None:
        """Say something to it, if it is still there."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(line)

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def is_there_when(self, event: asyncio.Event) -> bool:
        """Wait for the event; False if the process ended first."""
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return event.is_set() and not self.ended.done()

    async def becomes_ready(self) -> bool:
        """Wait until it has loaded all that is in production; False if it ended instead, or takes too long."""
        try:
            return await asyncio.wait_for(self.is_there_when(self.ready), READY_SECONDS)
        except TimeoutError:
            return False

    async def listens(self) -> bool:
        """Let it listen; False if it ended instead."""
        self.tell(replica.LISTEN)
        return await self.is_there_when(self.listening)

    async def _follow(self) -> int:
        assert self.process.stdout is not None  # noqa: S101 -- it is a pipe, see Slot
        said = {
            replica.LOADED: (self.loaded,),
            replica.READY: (self.loaded, self.ready),
            replica.LISTENING: (self.listening,),
        }
        async for line in self.process.stdout:
            for event in said.get(line, ()):
                event.set()
        return await self.process.wait()


class Slot:
    """The place of one replica: its number, its metrics port, and the process that is there now."""

    def __init__(self, number: int, command: Sequence[str], metrics: socket.socket) -> None:
        self._number = number
        self._command = command
        self._metrics = metrics
        self._restarts = Restarts()
        self._change = asyncio.Lock()
        self._current: Running | None = None
        self._alive: set[Running] = set()
        self._told: set[Running] = set()

    async def start(self) -> bool:
        """Start the replica; returns True when it listens, False if it ended instead, which it has explained if its code is 2."""
        try:
            self._current = running = await self._spawn()
        except OSError as error:  # no memory, no descriptor, no process to be had
            _log.error("replica could not be started", replica=self._number, error=str(error))
            return False
        if await running.is_there_when(running.loaded) and await running.listens():
            running.tell(replica.SCRAPE)
            return True
        if (code := await running.ended) != _EXPLAINED:
            _log.error("replica ended before it listened", replica=self._number, code=code)
        return False

    async def keep(self) -> None:
        """Start again whatever process is there and dies; ends only by being cancelled."""
        while (current := self._current) is not None:
            code = await asyncio.shield(current.ended)
            async with self._change:
                if self._current is current:  # else it was replaced
                    pause, self._restarts = self._restarts.after(time.monotonic() - current.started)
                    _log.warning("replica ended, starting it again", replica=self._number, code=code, seconds=pause)
                    await asyncio.sleep(pause)
                    await self.start()  # or the next round tries again, later

    async def replace(self) -> bool:
        """Start a process beside the one that is there, and let that leave when the new one is ready; False if it never was."""
        async with self._change:
            try:
                new = await self._spawn()
            except OSError:
                return False
            if not await new.becomes_ready() or not await new.listens():
                new.signal(signal.SIGKILL)
                return False
            old, self._current = self._current, new
            if old is not None:
                old.tell(replica.LEAVE)
                await asyncio.shield(old.ended)
            new.tell(replica.SCRAPE)
            _log.info("replica replaced", replica=self._number)
            return True

    def end(self, number: int) -> None:
        """Send a signal to every process of this replica."""
        self._told |= self._alive
        for running in self._alive:
            running.signal(number)

    async def ended(self) -> bool:
        """Wait for every process that was told to end; whether all that listened did so in order."""
        await asyncio.gather(*(running.ended for running in self._told))
        return not any(running.ended.result() for running in self._told if running.listening.is_set())

    async def _spawn(self) -> Running:
        seat = Seat(self._number, self._metrics.fileno())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", *self._command, "--replica", str(seat)),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(seat.metrics_fd,),
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its replicas in order
        )
        running = Running(process)
        self._alive.add(running)
        running.ended.add_done_callback(lambda _: self._alive.discard(running))
        return running


async def _run(slots: Sequence[Slot], announcement: str) -> int:
    stop, hang_up = asyncio.Event(), asyncio.Event()

    def end() -> None:
        number = signal.SIGKILL if stop.is_set() else signal.SIGTERM
        stop.set()
        for slot in slots:
            slot.end(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    terminal = os.isatty(0)
    # A terminal that was closed is gone when its SIGHUP arrives; one that was sent on purpose asks for a rolling restart.
    loop.add_signal_handler(signal.SIGHUP, lambda: end() if terminal and not os.isatty(0) else hang_up.set())
    stopped, started = loop.create_task(stop.wait()), loop.create_task(_start(slots))
    await asyncio.wait({stopped, started}, return_when=asyncio.FIRST_COMPLETED)
    failed = started.done() and not started.result() and not stop.is_set()
    work: list[asyncio.Task[Any]] = [started]
    if failed:
        end()
    elif not stop.is_set():
        standard_files.announce(announcement)
        work += [loop.create_task(slot.keep()) for slot in slots]
        work += [loop.create_task(_replace_when_told(slots, hang_up))]
    await stopped
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    in_order = await asyncio.gather(*(slot.ended() for slot in slots))
    return _EXPLAINED if failed else int(not all(in_order))


async def _start(slots: Sequence[Slot]) -> bool:
    first, *others = slots
    # The first alone: what stands in the way of one stands in the way of all, and is to be said once.
    return await first.start() and all(await asyncio.gather(*(slot.start() for slot in others)))


async def _replace_when_told(slots: Sequence[Slot], hang_up: asyncio.Event) -> None:
    while await hang_up.wait():
        hang_up.clear()
        for slot in slots:
            if not await slot.replace():
                _log.error("the new replica did not become ready: the old ones stay")
                break
        else:
            _log.info("all replicas replaced")


def _metrics_addresses(settings: Settings) -> list[str]:
    host, _, text = settings.metrics_address.rpartition(":")
    port = int(text)
    if port + settings.replicas - 1 > HIGHEST_PORT:
        raise SettingsError(
            f"--metrics-address {settings.metrics_address} leaves no ports for {settings.replicas} replicas: take a lower one"
        )
    return [f"{host}:{port + number if port else 0}" for number in range(settings.replicas)]
