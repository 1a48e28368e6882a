from fgvc.report.model_page import WIDTH, page

FOUND = {
    "model": "runs/birds/model",
    "format": 3,
    "fgvc_version": "0.1.0",
    "architecture": {
        "class_path": "RACNN",
        "init_args": {
            "num_scales": 2,
            "crop_size": None,
            "backbone": {"class_path": "Backbone", "init_args": {"name": "resnet50", "model_args": {"a": [1, True]}}},
            "head": {
                "class_path": "CosineHead",
                "init_args": {"scale": 16.0, "pooling": {"class_path": "GeMPooling", "init_args": {"power": 3.0}}},
            },
        },
    },
    "image_size": 224,
    "readout": "own",
    "input": {"size": 448, "fit": "crop", "crop_fraction": 0.875, "interpolation": "bicubic"},
    "weights": {
        "tensors": 320, "numbers": 25_600_000, "types": ["F32", "I64"], "bytes": 102_400_000, "sha256": "ab" * 32,
        "sha256_checked": True,
    },
    "levels": {
        "genus": {"classes": 2, "first": ["Larus", "Sterna"]},
        "species": {"classes": 200, "first": ["Larus canus", "a\x1b[31mb", "Möwe", "x\udcf6", "e"]},
    },
    "metrics": {"val/species/top1": 0.87654, "val/loss": None},
    "test": {f"test/{i}": i / 10 for i in range(14)},
    "calibration": {"split": "val", "images": 600, "ece_before": {"species": 0.1234}, "ece_after": {"species": 0.0234}},
    "vouched": [
        {"precision": 0.8, "probability": 0.5, "answered": 0.987, "images": 600},
        {"precision": 0.95, "probability": None, "answered": None, "images": 600},
    ],
    "written": "2026-11-24 13:52",
    "data": "CUB in data/CUB_200_2011",
    "provenance": {
        "run": "birds", "checkpoint": "best.ckpt", "command": ["fgvc", "fit", "--name", "my birds"], "python": "3.11.7",
        "platform": "Linux-6.1-x86_64", "packages": {"fgvc": "0.1.0", "torch": "2.6.0", "numpy": "1.26"},
    },
}  # fmt: skip
EMPTY = {**FOUND, "metrics": {}, "test": {}, "calibration": {}, "vouched": [], "data": None, "provenance": {}}

PAGE = """\
runs/birds/model

what it is
  RACNN(num_scales=2)
    backbone: Backbone(name=resnet50, model_args={a: [1, true]})
    head: CosineHead(scale=16.0)
      pooling: GeMPooling(power=3.0)
  photograph  87.5 % of its centred square, 448 px, seen at 224 px, bicubic
  answer      the most probable species and its genus; the probability of each
              level above: from the level's own classifier, where the method has
              one, or else the sum over the species below (own)
  weights     25.6 million numbers in 320 tensors (F32, I64), 102.4 MB
  sha256      abababababababababababababababababababababababababababababababab
  format      3, written by fgvc 0.1.0

what it knows
  genus       2: Larus, Sterna
  species     200: Larus canus, a\\x1b[31mb, Möwe, x\\udcf6, e, ...
  all of them: fgvc info MODEL --classes

how good it is
  when it was trained
    val/species/top1                               0.8765
    val/loss                                 not a number
  on the test images
    test/0                                         0.0000
    test/1                                         0.1000
    test/2                                         0.2000
    test/3                                         0.3000
    test/4                                         0.4000
    test/5                                         0.5000
    test/6                                         0.6000
    test/7                                         0.7000
    test/8                                         0.8000
    test/9                                         0.9000
    test/10                                        1.0000
    test/11                                        1.1000
    and 2 more: fgvc info MODEL --json
  calibration error, before and after calibrating on 600 val images, on the
    held-out half
    species                                  0.123 -> 0.023
  what can be vouched for (fgvc predict --precision)
    80 % right: 98.7 % of 600 images answered (probability 0.500 or more)
    95 % right: not with these 600 calibration images

where it came from
  run         birds
  checkpoint  best.ckpt
  data        CUB in data/CUB_200_2011
  file dated  2026-11-24 13:52
  made with   fgvc 0.1.0, torch 2.6.0, Python 3.11.7
  on          Linux-6.1-x86_64
  command     fgvc fit --name 'my birds'
"""


def test_the_page_word_for_word():
    assert "\n".join(page(FOUND)) + "\n" == PAGE


def test_what_is_not_known_is_said_or_left_out():
    lines = list(page({**EMPTY, "weights": {**FOUND["weights"], "sha256_checked": False}, "format": 1}))
    good = lines.index("how good it is")
    assert lines[good:] == [
        "how good it is",
        "  nothing is known: no scores, no calibration",
        "",
        "where it came from",
        "  file dated  2026-11-24 13:52",
    ]
    assert "              (format 1 stored none to compare with)" in lines


def test_the_day_of_the_training_comes_before_that_of_the_file():
    dated = {**FOUND, "provenance": {**FOUND["provenance"], "date": "2026-11-20T08:00:00+00:00"}}
    assert "  trained     2026-11-20T08:00:00+00:00" in list(page(dated))
    assert not any("file dated" in line for line in page(dated))


def test_no_line_is_wider_than_a_terminal():
    long = " ".join(f"word{i}" for i in range(90))
    levels = {"a level with a very long name, longer than its column": {"classes": 9, "first": [long] * 5}}
    metrics = {f"val/{'long' * 10}/top{i}": 0.5 for i in range(3)}
    provenance = {**FOUND["provenance"], "run": long, "command": long.split(), "platform": long}
    wide = {**FOUND, "levels": levels, "metrics": metrics, "provenance": provenance, "data": long}
    lines = list(page(wide))
    assert max(map(len, lines)) <= WIDTH == 80 and len(lines) > 60


def test_small_and_whole_inputs_are_said_shortly():
    small = {**FOUND["weights"], "numbers": 3917, "bytes": 25204}
    inputs = {"size": 224, "fit": "squash", "crop_fraction": 1.0, "interpolation": "area"}
    lines = list(page({**FOUND, "weights": small, "input": inputs}))
    assert "  photograph  all of it, squashed to a square, 224 px, area" in lines
    assert "  weights     3,917 numbers in 320 tensors (F32, I64), 25.2 kB" in lines


def test_an_architecture_of_odd_but_plain_data_is_shown():
    for odd in ("x", [1], {"class_path": 3, "init_args": [1]}, {"class_path": "A\nB"}):
        lines = list(page({**FOUND, "architecture": odd}))
        assert lines[2] == "what it is" and all(line.isprintable() for line in lines)
