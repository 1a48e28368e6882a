from types import SimpleNamespace

from fgvc.training.callbacks.notes import Notes


def test_notes_are_printed_by_one_process_when_the_training_begins(capsys):
    notes = Notes(["one", "a\nline"])
    assert capsys.readouterr().err == ""
    for first in (True, False):
        notes.on_fit_start(SimpleNamespace(is_global_zero=first), None)
    assert capsys.readouterr().err == "note: one\nnote: a\\nline\n"
