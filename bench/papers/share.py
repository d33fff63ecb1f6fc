"""Work shared out among several workers, each of which may give up: the others do what it leaves."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .trouble import Trouble

Task, Worker, Result = TypeVar("Task"), TypeVar("Worker"), TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Worker, Task, Result]):
    """A task that was done, by whom, and what came of it."""

    worker: Worker
    task: Task
    result: Result


@dataclass(frozen=True)
class Left(Generic[Worker]):
    """A worker that gave up, and why."""

    worker: Worker
    reason: Exception


class _Work(Generic[Task]):
    """Tasks that wait. Whoever finds none waits too while others are at work, since theirs may come back."""

    def __init__(self, tasks: Sequence[Task]):
        self._waiting = deque(tasks)
        self._at_work = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self) -> tuple[Task] | None:
        """Return a task; None where there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._at_work or self._stopped)
            if self._stopped or not self._waiting:
                return None
            self._at_work += 1
            return (self._waiting.popleft(),)

    def finish(self, *undone: Task):
        """Say that a task is no longer worked on; one that is not done goes back to the front."""
        with self._changed:
            self._at_work -= 1
            self._waiting.extendleft(undone)
            self._changed.notify_all()

    def stop(self):
        """Hand out no more tasks."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def share(
    tasks: Sequence[Task],
    workers: Sequence[Worker],
    do: Callable[[Worker, Task], Result],
    cancel: Callable[[Worker], None],
) -> Iterator[Done[Worker, Task, Result] | Left[Worker]]:
    """Do all tasks, one at a time by each worker in a thread of its own, and yield what happens as it happens.

    Leaving the iterator early, as by Ctrl-C, cancels what is at work.

    Args:
        do: does a task; whatever it raises makes the worker give up, and the task goes to another.
        cancel: makes a `do` of that worker come to an end.

    Raises:
        Trouble: no worker is left and tasks are; has every reason.
    """
    work, events = _Work(tasks), queue.SimpleQueue()

    def labour(worker: Worker):
        while taken := work.take():
            (task,) = taken
            try:
                result = do(worker, task)
            except Exception as reason:
                work.finish(task)
                events.put(Left(worker, reason))
                return
            events.put(Done(worker, task, result))
            work.finish()
        events.put(None)

    threads = [threading.Thread(target=labour, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    undone, at_work, reasons = len(tasks), len(threads), []
    try:
        while at_work:
            event = _next(events)
            if isinstance(event, Done):
                undone -= 1
            else:
                at_work -= 1
            if event is not None:
                reasons += [event] if isinstance(event, Left) else []
                yield event
        if undone:
            raise Trouble(
                "\n".join(
                    [f"No server is left; {undone} pictures are to be painted yet.", *map(_told, reasons)]
                )
            )
    finally:
        work.stop()
        if at_work:
            for worker in workers:
                _quietly(cancel, worker)


def _next(events: queue.SimpleQueue):
    """Wait for an event in turns, so that Ctrl-C is heard on every system."""
    while True:
        try:
            return events.get(timeout=0.5)
        except queue.Empty:
            continue


def _told(left: Left) -> str:
    return str(left.reason) or type(left.reason).__name__


def _quietly(cancel: Callable[[Worker], None], worker: Worker):
    try:
        cancel(worker)
    except Exception:  # it may be gone, which is what was wanted
        return
