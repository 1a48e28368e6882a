import json

import pytest
from fakes.tiny_model import TAXONOMY, tiny_model

from benchmarks.accuracy import levels_table
from fgvc.errors import UsageError
from fgvc.model_file.model import save


def make_run(folder, species, hd):
    save(tiny_model(), folder / "model")
    values = {f"test/{level}/top1": 0.9 for level in TAXONOMY.levels} | {"test/species/top1": species}
    values |= {"test/full_path": species, "test/hd@1": hd, "test/crm/hd@1": hd / 2}
    (folder / "test.json").write_text(json.dumps(values))
    return str(folder)


def test_seeds_are_averaged_and_methods_stand_apart(tmp_path, capsys):
    runs = [
        make_run(tmp_path / name, s, h) for name, s, h in (("a_s0", 0.5, 1.0), ("b_s0", 0.3, 3.0), ("a_s1", 0.7, 2.0))
    ]
    assert levels_table.main([*runs, "--readouts", "crm", "--batch", "2"]) == 0
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    header = ["method", "seeds", "family", "genus", "species", "full_path", "inconsistency", "severity"]
    assert lines[0][:8] == header and len({len(line) for line in lines}) == 1
    rows = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    assert list(rows) == ["a", "a + crm", "b", "b + crm"]
    assert rows["a"]["seeds"] == "2" and rows["a"]["species"] == "60.0" and rows["a"]["hd@1"] == "1.500"
    assert rows["a + crm"]["hd@1"] == "0.750" and rows["a + crm"]["species"] == "-"
    assert rows["b"]["severity"] == "-" and float(rows["b"]["images/s"]) > 0
    wanted = sum(p.numel() for p in tiny_model().recognizer.parameters()) / 1e6
    assert float(rows["b"]["M parameters"]) == pytest.approx(wanted, abs=0.01)


def test_a_run_without_a_test_is_told_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"test\.json: cannot be read .*run `fgvc test .*x` first"):
        levels_table.numbers(tmp_path / "x")
