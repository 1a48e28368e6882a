from fakes.tiny_run import read_csv

from fgvc.training.metrics_file import RunCSVLogger, keep_until


def logger(folder):
    return RunCSVLogger(save_dir=str(folder), name="", version="")


def log(one, rows):
    for step, row in rows.items():
        one.log_metrics(row, step=step)
    one.save()


def test_a_second_logger_adds_rows_and_columns_to_the_file(tmp_path):
    log(logger(tmp_path), {0: {"loss": 3.0}, 9: {"loss": 2.0, "acc": 0.5}})
    log(logger(tmp_path), {10: {"loss": 1.0}, 11: {"new": 7.0}})
    rows = read_csv(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["0", "9", "10", "11"]
    assert [row["loss"] for row in rows] == ["3.0", "2.0", "1.0", ""]
    assert [row["acc"] for row in rows] == ["", "0.5", "", ""]
    assert [row["new"] for row in rows] == ["", "", "", "7.0"]


def test_rows_that_will_be_trained_again_are_dropped(tmp_path):
    log(logger(tmp_path), {step: {"loss": float(step)} for step in (0, 4, 9, 10, 14)})
    path = tmp_path / "metrics.csv"
    with path.open("a") as file:
        file.write("0.5")  # a kill in the middle of a row
    keep_until(path, 10)
    assert [row["step"] for row in read_csv(path)] == ["0", "4", "9"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_file_that_is_not_there_is_left_so(tmp_path):
    keep_until(tmp_path / "metrics.csv", 3)
    assert not any(tmp_path.iterdir())
