"""Several recordings at a time, each in a process of its own.

A process that dies (of too little memory, say) takes the file that it was at with it and no other: another
one takes its place. When the parent dies, its children do.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from diffusion_asr.cli.listening import Heard, Listener, Settings, Task
from diffusion_asr.cli.report import reason
from diffusion_asr.errors import DiffusionASRError, LanguageError


@dataclass(frozen=True, slots=True)
class Progressed:
    """A worker has come so far with a file."""

    number: int
    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Noted:
    """A worker has something to say."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A file is done, or has failed."""

    number: int
    result: Heard | Exception


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A worker has no model."""

    error: Exception


Event = Progressed | Noted | Finished


class _Worker:
    """A process and the file that it is at."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")  # a forked torch hangs
        self.connection, theirs = context.Pipe()
        self.number: int | None = None
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, settings), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, number: int, task: Task) -> None:
        self.number = number
        self.connection.send((number, task))

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def transcribe_in_parallel(tasks: Sequence[Task], settings: Settings, jobs: int) -> Iterator[Event]:
    """What happens while the tasks are done, in the order in which it does.

    Args:
        tasks: Each gets one ``Finished``, with its place in this sequence.
        settings: How.
        jobs: Processes at a time.

    Raises:
        DiffusionASRError: No model, or a language that it does not know.
    """
    if settings.threads is None:
        settings = replace(settings, threads=max(1, (os.cpu_count() or 1) // jobs))
    waiting = deque(enumerate(tasks))
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                workers.append(_Worker(settings))
                workers[-1].give(*waiting.popleft())
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                event = _receive(worker)
                if event is None:
                    workers.remove(worker)
                    worker.stop()
                    yield Finished(worker.number or 0, _died(worker))
                    continue
                yield event
                if isinstance(event, Finished) and waiting:
                    worker.give(*waiting.popleft())
                elif isinstance(event, Finished):
                    workers.remove(worker)
                    worker.stop()
    finally:
        for worker in workers:
            worker.stop()


def _receive(worker: _Worker) -> Event | None:
    """The next event; None if the process is dead."""
    try:
        event: Event | _Unusable = worker.connection.recv()
    except (EOFError, OSError):
        return None
    if isinstance(event, _Unusable):
        raise event.error
    return event


def _died(worker: _Worker) -> DiffusionASRError:
    code = worker.process.exitcode
    return DiffusionASRError(f"its process ended with {code}, perhaps for want of memory; give fewer --jobs")


# --- in the child ------------------------------------------------------------------------------------------


def _serve(connection: Connection[Any, Any], settings: Settings) -> None:
    """Do what comes until nothing more does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends this process
    tasks: queue.Queue[tuple[int, Task]] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    try:
        listener = Listener(settings)
    except Exception as error:
        connection.send(_Unusable(plain(error)))
        return
    while True:
        number, task = tasks.get()
        connection.send(Finished(number, _transcribe(listener, number, task, connection)))


def _listen(connection: Connection[Any, Any], tasks: queue.Queue[tuple[int, Task]]) -> None:
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone


def _transcribe(
    listener: Listener, number: int, task: Task, connection: Connection[Any, Any]
) -> Heard | Exception:
    try:
        return listener.transcribe(
            task,
            progress=lambda done, total: connection.send(Progressed(number, done, total)),
            note=lambda message: connection.send(Noted(message)),
        )
    except Exception as error:
        return plain(error)


def plain(error: Exception) -> Exception:
    """An error that any process can read, told in one line."""
    if isinstance(error, LanguageError):
        return LanguageError(str(error))
    if isinstance(error, DiffusionASRError | OSError):
        return DiffusionASRError(reason(error))
    return DiffusionASRError(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")
