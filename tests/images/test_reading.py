import threading

import pytest

from fgvc.images.reading import Reading


def taken(reading):
    reading.begin()
    found = []
    while batch := reading.take():
        reading.begin()
        found.append(batch)
    return found


def test_batches_are_cut_into_pieces_and_none_goes_across_two():
    with Reading(str.upper, iter([iter("abcde"), iter(""), iter("f"), iter("ghij")]), 2) as reading:
        assert taken(reading) == [["A", "B"], ["C", "D"], ["E"], ["F"], ["G", "H"], ["I", "J"]]
    with Reading(str.upper, [], 2) as reading:
        assert taken(reading) == []


def test_a_batch_is_read_when_it_is_begun_and_no_sooner():
    done, named = [], []
    with Reading(lambda item: done.append(item) or item, [(named.append(i) or i for i in range(6))], 2) as reading:
        reading.begin()
        assert reading.take() == [0, 1] and sorted(done) == named == [0, 1]
        reading.begin()
        reading.begin()
        assert reading.take() == [2, 3] and named == [0, 1, 2, 3, 4, 5]
        assert reading.take() == [4, 5] and reading.take() == []


def test_pictures_of_a_batch_are_read_at_the_same_time(monkeypatch):
    monkeypatch.setattr("fgvc.images.reading.THREADS", 2)
    together = threading.Barrier(2, timeout=600)
    with Reading(lambda item: together.wait() >= 0 and item, [range(2)], 2) as reading:
        assert taken(reading) == [[0, 1]]


def test_what_is_not_begun_when_the_caller_leaves_is_called_off(monkeypatch):
    monkeypatch.setattr("fgvc.images.reading.THREADS", 1)
    begun, left, done = threading.Event(), threading.Event(), []

    def work(item):
        begun.set()
        left.wait()
        done.append(item)

    reading = Reading(work, [range(100)], 50)
    shutdown = reading._pool.shutdown

    def leave(cancel_futures):
        shutdown(wait=False, cancel_futures=cancel_futures)
        left.set()
        shutdown()

    monkeypatch.setattr(reading._pool, "shutdown", leave)
    with pytest.raises(KeyboardInterrupt), reading:
        reading.begin()
        begun.wait()
        raise KeyboardInterrupt
    assert done == [0]


def test_an_error_of_the_work_or_of_the_items_reaches_the_caller():
    def items():
        yield 1
        raise ValueError("item 2")

    with pytest.raises(ZeroDivisionError), Reading(lambda item: 1 // item, [[0]], 2) as reading:
        taken(reading)
    with pytest.raises(ValueError, match="item 2"), Reading(str, [items()], 1) as reading:
        taken(reading)
