import pytest

from fgvc.training.plain_time import in_words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.44, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1.0 minutes"), (90, "1.5 minutes"), (120, "2 minutes"),
     (360, "6 minutes"), (3569, "59 minutes"), (3600, "1.0 hours"), (9000, "2.5 hours")],
)  # fmt: skip
def test_a_length_of_time_is_said_in_two_digits(seconds, said):
    assert in_words(seconds) == said
