import json

import numpy as np
import pytest

from fgvc.data.episodes import Episodes, draw, read, write
from fgvc.errors import UsageError

LABELS = np.repeat(np.arange(8), [9, 20, 12, 30, 11, 25, 10, 14])
NAMES = [f"bird {i}" for i in range(8)]
PATHS = [f"{label}/{i}.jpg" for i, label in enumerate(LABELS)]


def drawn(n_episodes=50, seed=3, **kind):
    return draw(LABELS, **{"n_way": 5, "n_shot": 2, "n_query": 6} | kind, n_episodes=n_episodes, seed=seed,
                names=NAMES, where="test")  # fmt: skip


def test_an_episode_holds_different_images_of_different_classes():
    episodes = drawn()
    assert episodes.support.shape == (50, 5, 2) and episodes.query.shape == (50, 5, 6)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        both = np.concatenate([support, query], axis=1)
        assert len(np.unique(both)) == both.size
        assert all(len(np.unique(LABELS[way])) == 1 for way in both)
        assert len(np.unique(LABELS[both[:, 0]])) == 5


def test_an_episode_is_a_function_of_seed_and_number():
    many, few, other = drawn(50), drawn(20), drawn(20, seed=4)
    assert np.array_equal(many.support[:20], few.support) and np.array_equal(many.query[:20], few.query)
    assert not np.array_equal(few.support, other.support)


def test_every_class_comes_up_equally_often():
    classes = LABELS[drawn(2000).support[:, :, 0]]
    shares = np.bincount(classes.ravel(), minlength=8) / 2000
    assert np.abs(shares - 5 / 8).max() < 4 * np.sqrt(5 / 8 * 3 / 8 / 2000)


def test_a_file_replays_in_another_order_of_the_images(tmp_path):
    episodes = drawn()
    file, known = write(episodes, PATHS, tmp_path)
    assert known[:8] in file.name
    order = np.random.default_rng(0).permutation(len(PATHS))
    again, same = read(file, [PATHS[i] for i in order], LABELS[order])
    assert same == known
    assert np.array_equal(order[again.support], episodes.support)
    assert np.array_equal(order[again.query], episodes.query)
    assert write(episodes, PATHS, tmp_path / "b")[1] == known


def test_too_few_classes_and_images_are_named():
    with pytest.raises(UsageError, match="test: 8 classes, but --n_way 9"):
        drawn(n_way=9)
    with pytest.raises(UsageError, match=r"class 'bird 0' has 9 images, but an episode takes 10 .* give smaller"):
        drawn(n_query=8)
    with pytest.raises(UsageError, match=r"class 'bird 0' .*, and 1 more have too few; give"):
        drawn(n_query=9)
    with pytest.raises(UsageError, match="--n_shot 0: give 1 or more"):
        drawn(n_shot=0)
    with pytest.raises(UsageError, match="--seed -1"):
        drawn(seed=-1)


def test_unknown_labels_are_never_drawn():
    labels = np.where(np.arange(len(LABELS)) % 7 == 0, -1, LABELS)
    episodes = draw(labels, 3, 1, 3, 30, 0, NAMES, "test")
    assert (labels[episodes.support] >= 0).all() and (labels[episodes.query] >= 0).all()


def test_a_file_of_other_images_is_refused(tmp_path):
    file, _ = write(drawn(), PATHS, tmp_path)
    with pytest.raises(UsageError, match=r"of its \d+ images are not among these 10"):
        read(file, PATHS[:10], LABELS[:10])
    with pytest.raises(UsageError, match="of another class than its way"):
        read(file, PATHS, np.random.default_rng(0).permutation(LABELS))
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none.json", PATHS, LABELS)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("images"),
        lambda plain: plain.update(support=[[0]]),
        lambda plain: plain.update(n_way="five"),
        lambda plain: plain.update(query=[]),
        lambda plain: plain.update(images=plain["images"][:3]),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    file, _ = write(drawn(), PATHS, tmp_path)
    plain = json.loads(file.read_text())
    change(plain)
    file.write_text(json.dumps(plain))
    with pytest.raises(UsageError, match="no episode file of fgvc"):
        read(file, PATHS, LABELS)


def test_the_same_image_on_both_sides_is_refused(tmp_path):
    episodes = drawn(1)
    query = episodes.query.copy()
    query[0, 0, 0] = episodes.support[0, 0, 0]
    file, _ = write(Episodes(episodes.support, query, 0), PATHS, tmp_path)
    with pytest.raises(UsageError, match="episode 1 holds an image twice"):
        read(file, PATHS, LABELS)


def test_a_newer_format_is_refused(tmp_path):
    file, _ = write(drawn(), PATHS, tmp_path)
    file.write_text(file.read_text().replace('"format":1', '"format":2'))
    with pytest.raises(UsageError, match="format 2, and this fgvc reads up to 1; update fgvc"):
        read(file, PATHS, LABELS)
