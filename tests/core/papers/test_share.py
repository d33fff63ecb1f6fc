"""Work is shared out; what one leaves the others do; and it ends, however it ends."""

import threading
import time
from collections import Counter

import pytest

from bench.papers.share import Done, Left, share
from bench.papers.trouble import Trouble


def nobody(worker):
    """Cancels nothing."""


def done(events) -> list[int]:
    return sorted(event.task for event in events if isinstance(event, Done))


def test_everybody_works_and_every_task_is_done_once():
    together = threading.Barrier(3, timeout=10)

    def do(worker, task):
        if task < 3:
            together.wait()  # three are at work at once, or this breaks
        return worker, task

    events = list(share(range(30), ["a", "b", "c"], do, nobody))
    assert done(events) == list(range(30))
    assert all(event.result == (event.worker, event.task) for event in events)
    assert set(Counter(event.worker for event in events)) == {"a", "b", "c"}


def test_the_others_do_what_one_leaves():
    has_failed = threading.Event()

    def do(worker, task):
        if worker == "a":
            has_failed.set()
            raise ConnectionError("gone")
        has_failed.wait(10)
        return task

    events = list(share(range(9), ["a", "b"], do, nobody))
    assert done(events) == list(range(9))
    (left,) = (event for event in events if isinstance(event, Left))
    assert (left.worker, str(left.reason)) == ("a", "gone")


def test_who_is_done_waits_for_what_the_last_one_may_leave():
    is_taken = threading.Event()

    def do(worker, task):
        if worker == "slow":
            is_taken.set()
            time.sleep(0.2)  # the quick one is done by then, and finds nothing to do
            raise ConnectionError("gone at the end")
        if task == 0:
            is_taken.wait(10)
        return task

    assert done(share([0, 1], ["quick", "slow"], do, nobody)) == [0, 1]


def test_nobody_left_is_told_with_every_reason():
    def do(worker, task):
        if task == 1:
            raise ConnectionError(f"{worker} is gone")
        return task

    events = []
    with pytest.raises(Trouble, match="(?s)1 .*b is gone"):
        events.extend(share([0, 1], ["b"], do, nobody))
    with pytest.raises(Trouble, match="(?s)2 .*(a is gone.*b is gone|b is gone.*a is gone)"):
        for event in share([1, 1], ["a", "b"], do, nobody):
            events.append(event)


def test_leaving_early_cancels_what_is_at_work():
    cancelled = threading.Event()

    def do(worker, task):
        if task > 0:
            cancelled.wait(10)
        return task

    events = share(range(5), ["a"], do, lambda worker: cancelled.set())
    assert next(events).task == 0
    events.close()
    assert cancelled.is_set()


def test_nothing_to_do_is_done():
    assert list(share([], ["a", "b"], lambda worker, task: task, nobody)) == []
