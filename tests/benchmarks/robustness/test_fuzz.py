import random
from importlib import import_module

import pytest
from pytorch_lightning import Trainer

from benchmarks.robustness import fuzz, fuzz_config_tree
from benchmarks.robustness import fuzz_workers as workers
from fgvc.config import quiet

TOYS = """
import os, time
from fgvc.errors import UsageError

def prepare():
    open("ready", "w").close()

def make(draw):
    return {"toy": str(draw.randrange(10**6)).encode()}

def run(files):
    assert os.path.exists("ready")
    number = int(files["toy"]) % 6
    if number == 1:
        raise UsageError("one line")
    if number == 2:
        raise UsageError("two\\nlines")
    if number == 3:
        raise KeyError("nothing")
    if number == 4:
        os._exit(139)
    if number == 5:
        time.sleep(3600)
"""


def test_every_fate_is_counted_and_the_input_kept(monkeypatch, tmp_path):
    folder = tmp_path / "benchmarks/robustness"
    folder.mkdir(parents=True)
    (folder / "fuzz_toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    toys = import_module("benchmarks.robustness.fuzz_toys")
    count, seed = 16, 3
    kinds = [int(toys.make(workers.draw_of(seed, "toys", n))["toy"]) % 6 for n in range(count)]
    assert set(kinds) == set(range(6))  # every fate occurs
    tally = workers.fuzz("toys", count, seed, 2, 5.0, tmp_path / "kept")
    assert tally.outcomes == {
        "accepted": kinds.count(0),
        "refused": kinds.count(1),
        "crash": sum(kinds.count(k) for k in (2, 3, 4)),
        "hang": kinds.count(5),
    }
    said = {result.number: result.said for result in tally.told}
    for number, kind in enumerate(kinds):
        kept = tmp_path / f"kept/toys_{seed}_{number}"
        assert kept.is_dir() == (kind > 1)
        if kind > 1:
            assert (kept / "toy").read_bytes() == toys.make(workers.draw_of(seed, "toys", number))["toy"]
        told = ("", "one line", "a refusal that is no short line", "KeyError at ", "the process died", "not done after")
        assert told[kind] in said.get(number, "")
    assert tally.slowest.seconds >= 5 and tally.peak > 10 * 2**20


@pytest.mark.parametrize(("name", "count"), [("images", 60), ("models", 30), ("configs", 24)])
def test_mutated_input_is_read_or_refused(monkeypatch, tmp_path, name, count):
    kind = import_module(f"benchmarks.robustness.fuzz_{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "fit", Trainer.fit)  # what `prepare` changes is put back
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    quiet.libraries()  # what jsonargparse deprecates is no crash
    kind.prepare()
    fates: list[tuple[str, str]] = []
    while len(fates) < count or (len({fate for fate, _ in fates}) < 2 and len(fates) < 10 * count):
        fates.append(workers.attempt(kind, kind.make(workers.draw_of(0, name, len(fates)))))
    assert [said for fate, said in fates if fate == "crash"] == []
    assert {fate for fate, _ in fates} == {"accepted", "refused"}


@pytest.mark.parametrize("name", ["images", "models", "configs"])
def test_an_item_is_a_function_of_seed_and_number(name):
    draw_of, kind = workers.draw_of, import_module(f"benchmarks.robustness.fuzz_{name}")
    made = [kind.make(draw_of(seed, name, number)) for seed in (0, 1) for number in range(4)]
    assert made[:4] == [kind.make(draw_of(0, name, number)) for number in range(4)]
    assert len({str(files) for files in made}) > 6


def test_a_word_is_misspelt():
    words = {fuzz_config_tree.misspelt(random.Random(seed), "dropout") for seed in range(60)}
    assert len(words) > 15 and "DROPOUT" in words and all(4 < len(word) < 9 for word in words)


def test_the_table_and_the_exit_code(monkeypatch, capsys, tmp_path):

    def fake(kind, count, seed, *_rest):
        tally = workers.Tally(kind, peak=3 * 2**20, seconds=7.0)
        for number in range(count):
            crash = kind == "models" and number == 1 and seed == 1
            tally.add(workers.Result(number, "crash" if crash else "refused", "why", float(number), 2**20))
        return tally

    monkeypatch.setattr(fuzz, "fuzz", fake)
    words = ["--images", "1500", "--models", "2", "--configs", "1", "--keep", str(tmp_path)]
    assert fuzz.main(words) == 0
    out = capsys.readouterr().out
    assert "| images | 1,500 | 0 | 1,500 | 0 | 0 | 1499.0 (item 1499) | 7 | 3 |" in out
    assert fuzz.main([*words, "--seed", "1", "--show", "1"]) == 1
    out, err = capsys.readouterr()
    assert "| models | 2 | 0 | 1 | 1 | 0 | 1.0 (item 1) | 7 | 3 |" in out
    assert "models 1: crash: why\n" in out and "models 0: why\n" in out
    assert err == f"1 failed; their inputs are in {tmp_path}\n"
    with pytest.raises(SystemExit, match="2"):
        fuzz.main(["--configs", "0"])
