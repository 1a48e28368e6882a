from types import SimpleNamespace

from fgvc.training.callbacks import notes as module
from fgvc.training.callbacks.notes import Notes, Outline


def test_notes_are_printed_by_one_process_when_the_training_begins(capsys):
    notes = Notes(["one", "a\nline"])
    assert capsys.readouterr().err == ""
    for first in (True, False):
        notes.on_fit_start(SimpleNamespace(is_global_zero=first), None)
    assert capsys.readouterr().err == "note: one\nnote: a\\nline\n"


def test_the_outline_is_printed_by_one_process_when_the_training_begins(monkeypatch, capsys):
    monkeypatch.setattr(module, "outline", lambda *things: [f"{things[0]} {things[1]}", "second"])
    told = Outline("data")
    for first in (True, False):
        told.on_fit_start(SimpleNamespace(is_global_zero=first), "model")
    assert capsys.readouterr().err == "data model\nsecond\n"
