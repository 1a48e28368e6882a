import errno
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from itertools import chain, islice

import pytest

from fgvc.errors import FgvcError, UsageError
from fgvc.prediction.journal import Journal
from fgvc.prediction.results import Guess, Result

TERMS = {"model.safetensors": "12ab", "--top_k": 5, "--precision": None}


class Reader:
    """Names a picture after itself, and notes which pictures it was asked for."""

    def __init__(self, *bad):
        self.bad, self.asked = bad, []

    def __call__(self, batches):
        for path in chain.from_iterable(batches):
            self.asked.append(path)
            yield Result(path, error=f"{path}: gone") if path in self.bad else answer(path)


class Network:
    """Names a picture after the batch that it is in, as a network does in its last digits, and notes the batches."""

    def __init__(self, *bad):
        self.bad, self.batches = bad, []

    def __call__(self, batches):
        for batch in map("".join, batches):
            self.batches.append(batch)
            read = "".join(path for path in batch if path not in self.bad)
            for path in batch:
                yield Result(path, error=f"{path}: gone") if path in self.bad else answer(path, f" in {read}")


def answer(path, more=""):
    lineage = {"family": "Owls", "species": f"bird of {path}{more}"}
    return Result(path, lineage["species"], 0.5, lineage, {"family": 1.0, "species": 0.5}, [Guess("x", 0.5, lineage)])


def stopped(output, pictures, reader=None, terms=TERMS):
    """Answer the pictures and stop before the output is made; return the path of the journal."""
    with pytest.raises(KeyboardInterrupt), Journal(output, terms) as journal:
        list(journal.answered(pictures, reader or Reader()))
        raise KeyboardInterrupt
    return output.with_name(f".{output.name}.part.jsonl")


def test_answers_are_yielded_and_stored_in_order_and_a_finished_journal_is_gone(tmp_path):
    with Journal(tmp_path / "new" / "out.csv", TERMS) as journal:
        results = list(journal.answered(iter("abc"), Reader("b")))
        assert [result.path for result in results] == ["a", "b", "c"] and results[1].error == "b: gone"
        assert list(journal) == [result.to_dict() for result in results]
        assert [Result.from_dict(plain) for plain in journal] == results
        assert journal.path == tmp_path / "new" / ".out.csv.part.jsonl" and journal.path.is_file()
    assert (journal.found, journal.taken) == (0, 0) and list((tmp_path / "new").iterdir()) == []


def test_what_a_stopped_run_answered_is_not_asked_again_and_failures_are_tried_again(tmp_path):
    stopped(tmp_path / "out.csv", "abcd", Reader("b", "d"))
    reader = Reader("d")
    pictures = ["new first", *"abcd", "between", "e"]
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        results = list(journal.answered(pictures, reader))
        assert (journal.found, journal.taken) == (2, 2)
        assert [result.path for result in results] == [plain["path"] for plain in journal] == pictures
        assert [result for result in results if not result.error] == [answer(path) for path in pictures if path != "d"]
    assert reader.asked == ["new first", "b", "d", "between", "e"]


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_resumed_run_answers_as_one_that_was_never_stopped(tmp_path, stop):
    straight = list(Network("c")(["abcd", "efgh", "ij"]))
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "out.csv", TERMS) as journal:
        assert list(islice(journal.answered("abcdefghij", Network("c"), 4), stop)) == straight[:stop]
        raise KeyboardInterrupt
    network = Network("c")
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        assert list(journal.answered("abcdefghij", network, 4)) == straight
        assert [Result.from_dict(plain) for plain in journal] == straight
        assert journal.found == journal.taken == stop - (stop > 2)
    whole = ["abcd", "efgh", "ij"][stop // 4 :]
    assert network.batches == ["c"] * (stop >= 4) + [""] * (stop >= 8) + whole  # what could not be read is alone


def test_everything_may_be_known_and_a_picture_may_stand_there_twice(tmp_path):
    stopped(tmp_path / "out.csv", "abab")
    reader = Reader()
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        assert [result.path for result in journal.answered("baab", reader)] == list("baab")
        assert [plain["label"] for plain in journal] == [f"bird of {path}" for path in "baab"]
    assert reader.asked == []


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path, cut):
    path = stopped(tmp_path / "out.csv", "ab")
    whole = path.read_bytes()
    path.write_bytes(whole[: -cut * 10])
    left = path.read_bytes().count(b"\n")
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        assert journal.found == max(0, left - 1) < 2
        assert [result.label for result in journal.answered("ab", Reader())] == ["bird of a", "bird of b"]
        assert len(journal.path.read_bytes().splitlines()) == 3
        assert [json.loads(line)["path"] for line in journal.path.read_bytes().splitlines()[1:]] == ["a", "b"]


def test_zeros_that_a_power_cut_left_are_dropped(tmp_path):
    path = stopped(tmp_path / "out.csv", "ab")
    path.write_bytes(path.read_bytes() + b"\0" * 100 + b"\n")
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        assert journal.found == 2
        assert b"\0" not in journal.path.read_bytes()


@pytest.mark.parametrize(
    ("name", "now", "said"), [("--top_k", 3, "--top_k 5, not 3"), ("--precision", 0.9, "--precision none, not 0.9")]
)
def test_answers_on_other_terms_are_refused_by_name_and_thrown_away_when_told(tmp_path, name, now, said):
    output = tmp_path / "out.csv"
    path = stopped(output, "ab")
    before = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        Journal(output, {**TERMS, name: now})
    assert str(caught.value) == (
        f"{output}: a stopped run left answers in .out.csv.part.jsonl with {said}; "
        "give the same again to go on, or --overwrite to start over"
    )
    assert path.read_bytes() == before
    reader = Reader()
    with Journal(output, {**TERMS, name: now}, restart=True) as journal:
        assert journal.found == 0 and len(list(journal.answered("ab", reader))) == 2
        assert json.loads(journal.path.read_bytes().splitlines()[0])["terms"] == {**TERMS, name: now}
    assert reader.asked == ["a", "b"]


def test_the_same_terms_go_on_even_when_told_to_overwrite(tmp_path):
    """The command that was stopped may have had --overwrite, for the output before it."""
    stopped(tmp_path / "out.csv", "ab")
    with Journal(tmp_path / "out.csv", TERMS, restart=True) as journal:
        assert journal.found == 2


def test_a_file_of_that_name_that_is_no_journal_is_left_alone(tmp_path):
    path = tmp_path / ".out.csv.part.jsonl"
    path.write_text('{"path": "mine"}\n')
    with pytest.raises(UsageError) as caught:
        Journal(tmp_path / "out.csv", TERMS)
    assert str(caught.value) == (f"{path}: not left by a stopped fgvc predict; move it away, or give --overwrite")
    assert path.read_text() == '{"path": "mine"}\n'


def test_a_journal_without_an_answer_is_not_left_behind(tmp_path):
    with pytest.raises(RuntimeError), Journal(tmp_path / "out.csv", TERMS):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8_are_known_again(tmp_path):
    names = [os.fsdecode(b"caf\xe9.jpg"), "a\nb.jpg", "ü.jpg"]
    stopped(tmp_path / "out.csv", names)
    reader = Reader()
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        assert [result.path for result in journal.answered(names, reader)] == names
    assert reader.asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_run_that_goes_on_still_is_not_disturbed(tmp_path):
    output = tmp_path / "out.csv"
    code = (
        "import sys; from pathlib import Path; from fgvc.errors import UsageError\n"
        "from fgvc.prediction.journal import Journal\n"
        f"try: Journal(Path({str(output)!r}), {TERMS!r}, True)\n"
        "except UsageError as error: print(error)\n"
    )
    with Journal(output, TERMS) as journal:
        list(journal.answered("ab", Reader()))
        before = journal.path.read_bytes()
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert said == f"{output}: another fgvc predict is writing it; wait for it, or choose another name\n"
        assert journal.path.read_bytes() == before


@contextmanager
def quota(size):
    """No file grows beyond this many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_grow_keeps_what_it_has_and_goes_on_later(tmp_path):
    output = tmp_path / "out.csv"
    pictures = [f"{i}.jpg" for i in range(100)]
    with pytest.raises(FgvcError) as caught, quota(5000), Journal(output, TERMS) as journal:
        list(journal.answered(pictures, Reader()))
    count = journal.path.read_bytes().count(b"\n") - 1
    assert 5 < count < 50 and caught.value.exit_code == 1
    assert str(caught.value) == (
        f"{journal.path}: cannot be written ({os.strerror(errno.EFBIG)}); make room: "
        f"{count} answers kept in {journal.path}, the same command goes on from there"
    )
    reader = Reader()
    with Journal(output, TERMS) as journal:
        assert [result.path for result in journal.answered(pictures, reader)] == pictures
        assert journal.found == count and reader.asked == pictures[count:]


def test_a_full_disk_is_said_in_its_words(tmp_path, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FgvcError) as caught, Journal(tmp_path / "out.csv", TERMS) as journal:
        for _ in journal.answered("ab", Reader()):
            monkeypatch.setattr(journal, "_file", Full())
    assert str(caught.value) == (
        f"{journal.path}: cannot be written (No space left on device); make room: "
        f"1 answer kept in {journal.path}, the same command goes on from there"
    )


def test_answers_do_not_lie_in_memory(tmp_path):
    pictures = [f"photos/{i:05}.jpg" for i in range(4000)]
    used = []

    def measured(journal):
        tracemalloc.start()
        try:
            for number, _ in enumerate(
                journal.answered(pictures, lambda batches: map(answer, chain.from_iterable(batches)))
            ):
                if number % 1000 == 999:
                    used.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()

    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "out.csv", TERMS) as journal:
        measured(journal)
        raise KeyboardInterrupt
    # 8 bytes a picture and what Python keeps for later; one answer alone is above 1000.
    assert used[-1] - used[0] < 3000 * 100
    with Journal(tmp_path / "out.csv", TERMS) as journal:
        assert journal.found == 4000
        used.clear()
        measured(journal)
        assert used[-1] - used[0] < 3000 * 100
        tracemalloc.start()
        assert sum(1 for _ in journal) == 4000
        assert tracemalloc.get_traced_memory()[1] < 500_000
        tracemalloc.stop()
