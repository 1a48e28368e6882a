import errno
import io
import os
import signal
import sys
from itertools import chain, islice
from pathlib import Path

import pytest

from fgvc.errors import FgvcError, StoppedError
from fgvc.prediction import output as module
from fgvc.prediction.journal import Journal
from fgvc.prediction.output import to_file, to_stdout
from fgvc.prediction.results import Result
from fgvc.prediction.tables.columns import Columns

COLUMNS = Columns((), 1, boxed=False, vouched=False)


def answers(*names):
    for name in names:
        if name is KeyboardInterrupt:
            raise KeyboardInterrupt
        yield Result(name, "bird", 0.5)


def journal_of(path):
    return Journal(path, {})


def test_stdout_gets_each_answer_and_odd_names_as_they_are(capfdbinary):
    to_stdout(answers("a.jpg", os.fsdecode(b"caf\xe9.jpg")), "csv", COLUMNS)
    assert capfdbinary.readouterr().out == (
        b"path,label,score,warning,error\na.jpg,bird,0.500000,,\ncaf\xe9.jpg,bird,0.500000,,\n"
    )


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(FgvcError) as caught:
            to_stdout(answers("a.jpg"), "csv", COLUMNS)
    assert str(caught.value) == "stdout: cannot be written (No space left on device)"


def test_a_reader_that_has_gone_is_left_to_the_entry_point(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        to_stdout(answers("a.jpg"), "csv", COLUMNS)


def test_the_file_is_made_once_all_answers_are_there(tmp_path):
    output = tmp_path / "out.txt"
    with journal_of(output) as journal:
        pictures = iter([os.fsdecode(b"caf\xe9.jpg"), "b.jpg"])

        def predict(batches):
            for path in chain.from_iterable(batches):
                assert not output.exists()
                yield Result(path, "bird", 0.5)

        to_file(journal.answered(pictures, predict), output, "csv", COLUMNS, journal)
    assert output.read_bytes() == (
        b"path,label,score,warning,error\ncaf\xe9.jpg,bird,0.500000,,\nb.jpg,bird,0.500000,,\n"
    )


def test_ctrl_c_keeps_the_answers_and_says_so(tmp_path):
    output = tmp_path / "out.csv"
    with pytest.raises(StoppedError) as caught, journal_of(output) as journal:
        results = journal.answered(
            "abc", lambda batches: answers(*islice(chain.from_iterable(batches), 2), KeyboardInterrupt)
        )
        to_file(results, output, "csv", COLUMNS, journal)
    assert caught.value.exit_code == 128 + signal.SIGINT == 130
    kept = tmp_path / ".out.csv.part.jsonl"
    assert str(caught.value) == f"interrupted; 2 answers kept in {kept}, the same command goes on from there"
    assert list(tmp_path.iterdir()) == [kept] and kept.read_bytes().count(b"\n") == 3


def test_an_output_that_cannot_be_written_keeps_the_answers(tmp_path, monkeypatch):
    def full(results, file, columns):
        file.write("path")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(module.WRITERS, "csv", full)
    output = tmp_path / "out.csv"
    with pytest.raises(FgvcError) as caught, journal_of(output) as journal:
        to_file(
            journal.answered("ab", lambda batches: answers(*chain.from_iterable(batches))),
            output,
            "csv",
            COLUMNS,
            journal,
        )
    kept = tmp_path / ".out.csv.part.jsonl"
    assert str(caught.value) == (
        f"{output}: cannot be written (No space left on device); "
        f"2 answers kept in {kept}, the same command goes on from there"
    )
    assert list(tmp_path.iterdir()) == [kept]
