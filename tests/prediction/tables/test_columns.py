import pytest

from fgvc.errors import UsageError
from fgvc.prediction.results import Guess, Result, vouched
from fgvc.prediction.tables.columns import Columns

OWL, TAWNY = {"family": "Owls", "species": "Barn Owl"}, {"family": "Owls", "species": "Tawny Owl"}
GOOD = Result(
    "a.jpg",
    "Barn Owl",
    0.75,
    OWL,
    {"family": 0.875, "species": 0.75},
    [Guess("Barn Owl", 0.75, OWL), Guess("Tawny Owl", 0.125, TAWNY)],
    [(0.0, 0.25, 0.5, 1.0)],
)
BAD = Result("b.jpg", error="b.jpg: the file is empty")
LEVELS = ("family", "species")


def table(columns, *results):
    """Return one dict per row, each as long as the header."""
    names = list(columns.kinds())
    return [dict(zip(names, row, strict=True)) for result in results for row in columns.rows(result.to_dict())]


def test_wide_has_a_row_per_picture():
    rows = table(Columns(LEVELS, 3, boxed=True, vouched=False), GOOD, BAD)
    assert rows[0] == {
        **{"path": "a.jpg", "label": "Barn Owl", "score": 0.75},
        **{"family": "Owls", "family_score": 0.875, "species": "Barn Owl", "species_score": 0.75},
        **{"top2_label": "Tawny Owl", "top2_score": 0.125, "top3_label": None, "top3_score": None},
        **{"boxes": [[0.0, 0.25, 0.5, 1.0]], "warning": None, "error": None},
    }
    assert rows[1] == {**dict.fromkeys(rows[0]), "path": "b.jpg", "error": BAD.error}


def test_long_has_a_row_per_guess_and_one_for_a_picture_that_could_not_be_read():
    rows = table(Columns(LEVELS, 2, boxed=True, vouched=False, layout="long"), GOOD, BAD)
    shared = {"path": "a.jpg", "boxes": [[0.0, 0.25, 0.5, 1.0]], "warning": None, "error": None}
    assert rows == [
        {**shared, "rank": 1, "label": "Barn Owl", "score": 0.75, **OWL},
        {**shared, "rank": 2, "label": "Tawny Owl", "score": 0.125, **TAWNY},
        {**dict.fromkeys(rows[0]), "path": "b.jpg", "error": BAD.error},
    ]
    assert list(rows[0]) == ["path", "rank", "label", "score", "family", "species", "boxes", "warning", "error"]


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_the_answer_stands_after_the_path_in_every_row(layout):
    sure = vouched(Result(**vars(GOOD)), 0.8)
    rows = table(Columns(LEVELS, 2, boxed=False, vouched=True, layout=layout), sure, BAD)
    assert len(rows) == {"wide": 2, "long": 3}[layout]
    for row in rows:
        expected = ("Owls", "family", 0.875) if row["path"] == "a.jpg" else (None,) * 3
        assert list(row.items())[1:4] == list(zip(("answer", "answer_level", "answer_score"), expected, strict=True))
        assert "boxes" not in row


def test_a_level_named_like_a_column_gets_a_name_of_its_own():
    levels = ["path", "rank", "species", "answer", "warning"]
    wide = ["path", "label", "score", "level_path", "level_path_score", "rank", "rank_score", "species"]
    wide += ["species_score", *("level_answer", "level_answer_score", "level_warning", "level_warning_score")]
    wide += ["warning", "error"]
    assert list(Columns(levels, 1, False, False).kinds()) == wide
    long = ["path", "rank", "label", "score", "level_path", "level_rank", "species", "level_answer"]
    long += ["level_warning", "warning", "error"]
    assert list(Columns(levels, 1, False, False, "long").kinds()) == long


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_a_damaged_picture_has_its_warning_in_every_row(layout):
    damaged = Result(**{**vars(GOOD), "warning": "damaged picture (x)"})
    rows = table(Columns(LEVELS, 2, boxed=False, vouched=False, layout=layout), damaged, GOOD)
    assert [row["warning"] for row in rows if row["path"] == "a.jpg"] == (
        ["damaged picture (x)", None] if layout == "wide" else ["damaged picture (x)"] * 2 + [None] * 2
    )
    older = {key: x for key, x in GOOD.to_dict().items() if key != "warning"}  # kept by a journal of an older fgvc
    assert Columns(LEVELS, 2, False, False, layout).rows(older) == Columns(LEVELS, 2, False, False, layout).rows(
        GOOD.to_dict()
    )


def test_an_unknown_layout_is_refused():
    with pytest.raises(UsageError, match=r"^layout: 'tall'; it is 'wide' or 'long'$"):
        Columns([], 1, False, False, "tall").check()
