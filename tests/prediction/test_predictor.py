import gc
import io
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from fakes.tiny_model import LEAVES, TAXONOMY, certified, saved, tiny_model
from PIL import Image

import fgvc
from fgvc.confidence.vouching import GRID, Vouching
from fgvc.datatypes import Prediction
from fgvc.errors import FgvcError, UsageError
from fgvc.images.decoding import ImageError
from fgvc.images.pictures import Square
from fgvc.images.resizing import EvalResize
from fgvc.methods.recognizers.base import Recognizer
from fgvc.model_file.model import Model, ModelFileError
from fgvc.prediction.predictor import Predictor, load
from fgvc.prediction.results import Result, Results
from fgvc.taxonomy.tree import Taxonomy


def noise(seed, height=64, width=96):
    """Coarse blotches: unlike from picture to picture, and unlike themselves when turned."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model())


@pytest.fixture
def folder(tmp_path):
    """Five pictures at several depths, and things that are none."""
    for i, name in enumerate(("b.png", "a/2.PNG", "a/1.png", "c/d/e.png", "z.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(i)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._b.png").write_bytes(b"hidden")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.png").write_bytes(b"hidden")
    return tmp_path


def by_hand(path, temperature):
    """Pillow's crop and box average, the net in float64, softmax and roll-up in loops; 64 x 96 becomes 32 x 32."""
    square = Image.open(path).convert("RGB").crop((16, 0, 80, 64)).reduce(2)
    images = torch.from_numpy(np.array(square)).double().permute(2, 0, 1)[None]
    logits = tiny_model().recognizer.double()(images).logits["species"][0].tolist()
    powers = [math.exp(value / temperature) for value in logits]
    leaves = [power / sum(powers) for power in powers]
    levels = []
    for depth in range(3):
        sums = {}
        for lineage, share in zip(LEAVES, leaves, strict=True):
            sums[lineage[: depth + 1]] = sums.get(lineage[: depth + 1], 0.0) + share
        levels.append(sums)
    return leaves, levels


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_predict_agrees_with_pillow_and_loops_in_float64(tmp_path, temperature):
    Image.fromarray(noise(7)).save(tmp_path / "bird.png")
    temperatures = {} if temperature == 1 else {"species": temperature}
    result = Predictor(tiny_model(temperatures=temperatures)).predict(tmp_path / "bird.png")
    leaves, levels = by_hand(tmp_path / "bird.png", temperature)
    best = max(range(5), key=leaves.__getitem__)
    assert max(leaves) < 0.99 and sorted(leaves)[-1] - sorted(leaves)[-2] > 0.01  # the example says something
    assert result.path == str(tmp_path / "bird.png")
    assert result.label == LEAVES[best][2]
    assert result.score == pytest.approx(leaves[best], abs=2e-3)
    assert list(result.lineage.items()) == list(zip(("family", "genus", "species"), LEAVES[best], strict=True))
    expected = [sums[LEAVES[best][: depth + 1]] for depth, sums in enumerate(levels)]
    assert list(result.lineage_scores.values()) == pytest.approx(expected, abs=2e-3)
    order = sorted(range(5), key=lambda leaf: -leaves[leaf])
    assert [guess.label for guess in result.top] == [LEAVES[leaf][2] for leaf in order]
    assert [guess.score for guess in result.top] == pytest.approx([leaves[leaf] for leaf in order], abs=2e-3)
    assert [tuple(guess.lineage.values()) for guess in result.top] == [LEAVES[leaf] for leaf in order]
    assert result.boxes is None and result.error is None


def test_a_temperature_above_one_makes_the_same_answer_less_sure(predictor):
    sure, unsure = predictor.predict(noise(7)), Predictor(tiny_model(temperatures={"species": 4.0})).predict(noise(7))
    assert sure.label == unsure.label
    assert unsure.score < sure.score - 0.05


def test_path_bytes_pillow_and_array_of_one_picture_give_the_same_answer(predictor, tmp_path):
    path = tmp_path / "bird.png"
    Image.fromarray(noise(1)).save(path)
    expected = predictor.predict(path)
    with Image.open(path) as lazy:
        for same in (str(path), path.read_bytes(), lazy, Image.fromarray(noise(1)), noise(1)):
            result = predictor.predict(same)
            assert (result.label, result.score, result.top) == (expected.label, expected.score, expected.top)


def test_grey_and_transparent_pictures_in_memory_are_read_like_their_files(predictor):
    grey = noise(2)[..., 0]
    for picture in (Image.fromarray(grey), Image.fromarray(np.dstack([noise(2), grey]))):
        file = io.BytesIO()
        picture.save(file, "PNG")
        assert predictor.predict(picture).top == predictor.predict(file.getvalue()).top
    assert predictor.predict(grey).top == predictor.predict(np.dstack([grey] * 3)).top


def test_a_rotated_jpeg_is_put_upright_from_file_and_from_memory(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    Image.fromarray(noise(3)).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "turned.jpg") as picture:
        upright = np.ascontiguousarray(np.rot90(np.asarray(picture), k=-1))
        lying = predictor.predict(np.asarray(picture))
        expected = predictor.predict(upright)
        answers = [predictor.predict(tmp_path / "turned.jpg"), predictor.predict(picture)]
    assert abs(lying.score - expected.score) > 0.01 or lying.label != expected.label
    for answer in answers:
        assert answer.label == expected.label
        assert answer.score == pytest.approx(expected.score, abs=1e-5)


def test_a_folder_gives_its_pictures_at_any_depth_in_the_order_of_their_paths(predictor, folder):
    results = predictor.predict(folder)
    expected = ["a/1.png", "a/2.PNG", "b.png", "c/d/e.png", "z.png"]
    assert [result.path for result in results] == [str(folder / name) for name in expected]
    alone = [predictor.predict(folder / name) for name in expected]
    assert [result.label for result in results] == [result.label for result in alone]
    assert len({round(result.score, 4) for result in alone}) == 5
    assert [result.score for result in results] == pytest.approx([result.score for result in alone], abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_the_batch_size_changes_nothing(predictor, batch_size):
    pictures = [noise(i, 40 + i, 50) for i in range(7)]
    together = predictor.predict(pictures, batch_size=batch_size)
    for picture, result in zip(pictures, together, strict=True):
        alone = predictor.predict(picture)
        assert [guess.label for guess in result.top] == [guess.label for guess in alone.top]
        assert [g.score for g in result.top] == pytest.approx([g.score for g in alone.top], abs=1e-6)


def test_a_list_may_mix_everything_and_an_array_of_four_axes_is_a_list(predictor, folder):
    results = predictor.predict([folder / "b.png", noise(1), [folder / "a"], (folder / "b.png").read_bytes()])
    assert [result.path for result in results] == [
        str(folder / "b.png"),
        None,
        str(folder / "a/1.png"),
        str(folder / "a/2.PNG"),
        None,
    ]
    assert results[0].score == pytest.approx(results[4].score, abs=1e-6) != results[1].score
    assert len(predictor.predict(np.stack([noise(1), noise(2)]))) == 2
    assert predictor.predict([]) == []


def test_the_same_opened_picture_may_stand_in_a_list_many_times(predictor, folder):
    with Image.open(folder / "b.png") as lazy:
        results = predictor.predict([lazy] * 20, batch_size=20)
    assert len({result.label for result in results}) == 1
    assert not any(result.error for result in results)


def test_a_picture_that_cannot_be_read_keeps_its_place_among_many_and_raises_alone(predictor, folder):
    (folder / "a" / "1.png").write_bytes(b"GIF8 is not")
    results = predictor.predict(
        [folder / "b.png", folder / "a/1.png", folder / "gone.png", folder / "z.png"], batch_size=3
    )
    assert [result.label is None for result in results] == [False, True, True, False]
    assert "a/1.png: not a picture" in results[1].error and "gone.png" in results[2].error
    assert results[1].score is None and results[1].top == [] and results[1].path == str(folder / "a/1.png")
    assert results[3].score == pytest.approx(predictor.predict(folder / "z.png").score, abs=1e-6)
    with pytest.raises(ImageError, match=r"gone\.png"):
        predictor.predict(folder / "gone.png")
    with pytest.raises(ImageError, match=r"a/1\.png"):
        predictor.predict(folder / "a/1.png")


def test_a_batch_of_nothing_but_damaged_pictures_is_answered(predictor):
    results = predictor.predict([b"", b"no"], batch_size=1)
    assert [result.error is None for result in results] == [False, False]


def test_a_folder_without_pictures_is_an_error_row(predictor, tmp_path):
    (result,) = predictor.predict(tmp_path)
    assert result.path == str(tmp_path) and "without pictures" in result.error


def test_a_stream_is_read_only_a_few_batches_ahead(predictor):
    begun = 0

    def endless():
        nonlocal begun
        while True:
            begun += 1
            yield noise(begun % 5)

    stream = predictor.predict_iter(endless(), batch_size=2)
    for taken in range(1, 40):
        assert next(stream).label
        assert begun <= taken + 6
    stream.close()


def test_on_the_cpu_nothing_is_read_while_the_network_computes(predictor, monkeypatch):
    at_work, during = [], []
    read, scores = predictor._read, predictor.scores

    def reading(picture):
        at_work.append(picture)
        found = read(picture)
        at_work.pop()
        return found

    monkeypatch.setattr(predictor, "_read", reading)
    monkeypatch.setattr(predictor, "scores", lambda images: during.append(len(at_work)) or scores(images))
    results = list(predictor.predict_iter([noise(i) for i in range(7)], batch_size=3))
    assert len(results) == 7 and during == [0, 0, 0]


def test_of_twenty_thousand_pictures_only_a_few_batches_are_in_memory():
    predictor = Predictor(Model(TwoLevels([0.0, 3.0], [2.0, 0.0, 0.0, 0.0, 1.0]), {}, EvalResize(8)))
    picture, most = np.zeros((8, 8, 3), np.uint8), 0
    for number, _ in enumerate(predictor.predict_iter((picture for _ in range(20_000)), batch_size=250), 1):
        if number % 1990 == 0:
            most = max(most, sum(type(thing) in (Result, Square) for thing in gc.get_objects()))
    assert number == 20_000 and 0 < most <= 5 * 250


def test_whether_there_are_boxes_is_known_before_any_picture(predictor):
    assert not predictor.has_boxes()
    assert Predictor(Model(TwoLevels([0.0, 0.0], [0.0] * 5), {}, EvalResize(8))).has_boxes()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (3, "int is no picture"),
        ({"a.jpg": 1}, "dict is no picture"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "Tensor is no picture"),
        ([None], "NoneType is no picture"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (io.StringIO("a.jpg"), "StringIO is open as text"),
        ("", "an empty path"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(predictor, wrong, said):
    with pytest.raises(UsageError, match=said):
        predictor.predict(wrong)
    with pytest.raises(UsageError, match=said):
        predictor.predict_iter(wrong)  # before the first answer is asked for


def test_an_open_file_a_table_and_an_array_of_pictures_are_answered_as_their_paths(predictor, folder):
    paths = [str(folder / "a/1.png"), str(folder / "b.png")]
    expected = [result.top for result in predictor.predict(paths)]
    with (folder / "a/1.png").open("rb") as file:
        assert predictor.predict(file).top == predictor.predict(paths[0]).top
    table = predictor.predict(pa.table({"path": paths, "label": ["x", "y"]}))
    assert [(result.path, result.top) for result in table] == list(zip(paths, expected, strict=True))
    batch = np.stack([noise(2), noise(0)])  # as `folder` writes them
    assert [result.top for result in predictor.predict(batch)] == expected


def test_a_damaged_picture_is_answered_with_a_warning(predictor, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(noise(1)).save(buffer, "JPEG", quality=95)
    whole = buffer.getvalue()
    (tmp_path / "cut.jpg").write_bytes(whole[:-2])
    result = predictor.predict(tmp_path / "cut.jpg")
    assert result.warning == "the end of the file is missing, no pixel is lost; copy or download it again"
    assert result.top == predictor.predict(whole).top and predictor.predict(whole).warning is None
    assert Result.from_dict(result.to_dict()) == result
    older = {key: x for key, x in result.to_dict().items() if key != "warning"}
    assert Result.from_dict(older).warning is None


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.rand(1, 3, 32, 32), r"\(1, 3, 32, 32\), torch.float32"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"\(3, 32, 32\)"),
        (np.zeros((1, 3, 32, 32), np.uint8), "ndarray"),
    ],
)
def test_scores_of_what_is_no_batch_of_bytes_are_refused(predictor, images, said):
    with pytest.raises(UsageError, match=f"scores: {said}"):
        predictor.scores(images)


def test_one_allowed_name_may_be_a_text():
    predictor = Predictor(tiny_model())
    assert predictor.allow(LEAVES[0][2]) == predictor.allow([LEAVES[0][2]]) == 1


def test_numbers_below_one_are_refused_before_any_work(predictor):
    for key in ("top_k", "batch_size"):
        with pytest.raises(UsageError, match=f"{key}: 0"):
            predictor.predict_iter([], **{key: 0})


def test_top_k_is_cut_at_the_number_of_classes(predictor):
    assert [len(predictor.predict(noise(1), top_k=k).top) for k in (1, 3, 50)] == [1, 3, 5]


class TwoLevels(Recognizer):
    """Scores family and species by fixed numbers that contradict each other, and looks at a fixed box."""

    def __init__(self, families, species):
        super().__init__(TAXONOMY, 8)
        self.families, self.species = families, species

    def forward(self, images):
        count = len(images)
        logits = {"family": torch.tensor([self.families] * count), "species": torch.tensor([self.species] * count)}
        boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.75, 1.0]]] * count)
        return Prediction(logits, torch.zeros(count, 2), boxes)

    def loss(self, prediction, labels):
        return {}


def test_the_lineage_follows_the_top_leaf_even_against_the_family_head():
    model = Model(TwoLevels([0.0, 3.0], [2.0, 0.0, 0.0, 0.0, 1.0]), {}, EvalResize(8), {"family": 2.0})
    result = Predictor(model).predict(noise(0))
    assert list(result.lineage.values()) == ["Finches", "Carduelis", "Goldfinch"]
    total = math.e**2 + 3 + math.e
    assert result.lineage_scores["species"] == pytest.approx(math.e**2 / total)
    assert result.lineage_scores["genus"] == pytest.approx((math.e**2 + 1) / total)
    # The family's own logits, divided by the family's own temperature.
    assert result.lineage_scores["family"] == pytest.approx(1 / (1 + math.exp(1.5)))


def test_boxes_come_back_as_fractions_of_the_photograph():
    model = Model(TwoLevels([0.0, 0.0], [0.0] * 5), {}, EvalResize(8, "crop", 0.5))
    result = Predictor(model).predict(np.zeros((40, 80, 3), np.uint8))
    # The model sees the central 20 x 20 pixels: x 30 .. 50 of 80, y 10 .. 30 of 40.
    seen = (30 / 80, 10 / 40, 50 / 80, 30 / 40)
    assert result.boxes == [pytest.approx(seen), pytest.approx((35 / 80, 20 / 40, 45 / 80, 30 / 40))]


def test_equal_scores_are_told_in_the_order_of_the_classes():
    result = Predictor(Model(TwoLevels([0.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0]), {}, EvalResize(8))).predict(noise(0))
    assert [guess.label for guess in result.top] == ["Siskin", "Tawny Owl", "Goldfinch", "Brambling", "Barn Owl"]


def test_a_net_that_answers_nan_is_a_failure_and_no_answer():
    predictor = Predictor(Model(TwoLevels([0.0, 0.0], [math.nan] * 5), {}, EvalResize(8)))
    with pytest.raises(FgvcError, match="not numbers"):
        predictor.predict(noise(0))


def test_a_flat_model_has_a_lineage_of_one_level():
    result = Predictor(tiny_model(taxonomy=Taxonomy.flat(["a", "b", "c"]))).predict(noise(1))
    assert result.lineage == {"class": result.label}
    assert result.lineage_scores == {"class": pytest.approx(result.score)}


def test_load_reads_a_run_folder_and_its_model_folder(tmp_path, predictor):
    run = saved(tmp_path / "run")
    for place in (run, str(run / "model")):
        again = fgvc.load(place, device="cpu")
        assert again.predict(noise(4)).score == pytest.approx(predictor.predict(noise(4)).score, abs=1e-6)
        assert again.taxonomy == TAXONOMY


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(ModelFileError, match="no model here"):
        load(tmp_path)
    with pytest.raises(UsageError, match="'gpu'"):
        load(saved(tmp_path / "run"), device="gpu")


def test_a_result_becomes_plain_data():
    plain = Predictor(Model(TwoLevels([0.0, 0.0], [0.0] * 5), {}, EvalResize(8))).predict(noise(0), top_k=2).to_dict()
    assert type(plain["boxes"][0]) is list and type(plain["top"][0]) is dict
    assert set(plain) == {"path", "label", "score", "lineage", "lineage_scores", "top", "boxes", "error", "warning"}
    vouched = Predictor(tiny_model(vouching=certified(0.5))).predict(noise(0), precision=0.9).to_dict()
    assert set(vouched) == {*plain, "answer", "answer_level", "answer_score"}
    assert isinstance(Results([Result("x", error="gone")]).to_dicts()[0], dict)


def test_importing_the_predictor_needs_neither_lightning_nor_albumentations():
    code = (
        "import sys, fgvc.prediction.predictor\n"
        "kept_out = ('pytorch_lightning', 'lightning', 'albumentations', 'fgvc.data.sources')\n"
        "print([m for m in kept_out if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


class Untouched(Recognizer):
    """Fails when it is asked anything."""

    def __init__(self):
        super().__init__(TAXONOMY, 8)

    def forward(self, images):
        raise AssertionError("the network was run")

    def loss(self, prediction, labels):
        return {}


def untouched():
    raise AssertionError("a picture was read")
    yield


def test_answers_are_the_deepest_names_that_are_sure_enough(tmp_path):
    pictures, levels = [noise(seed) for seed in range(12)], set()
    plain = Predictor(tiny_model()).predict(pictures)
    for wanted in (0.2, 0.4, 0.95):
        least = min(t for t in GRID if t >= wanted)
        predictor = Predictor(tiny_model(vouching=certified(least)))
        assert predictor.threshold(0.96) == least
        for result, bare in zip(predictor.predict(pictures, precision=0.96), plain, strict=True):
            expected = ("unknown", None, None)
            for level in ("family", "genus", "species"):
                if bare.lineage_scores[level] >= least:
                    expected = (bare.lineage[level], level, pytest.approx(bare.lineage_scores[level], abs=1e-6))
            assert (result.answer, result.answer_level, result.answer_score) == expected
            assert (result.label, result.top[0].label, bare.answer) == (bare.label, bare.label, None)
            levels.add(result.answer_level)
    assert levels == {"family", "genus", "species", None}


def test_the_temperature_is_in_the_probability_that_an_answer_needs():
    hot = Predictor(tiny_model({"species": 50.0}, vouching=certified(0.7)))
    result = hot.predict(noise(0), precision=0.9)
    assert result.lineage_scores["family"] < 0.7 and (result.answer, result.answer_level) == ("unknown", None)
    assert Predictor(tiny_model({"species": 0.01}, vouching=certified(0.7))).predict(
        noise(0), precision=0.9
    ).answer in [leaf[-1] for leaf in LEAVES]


def test_a_damaged_picture_has_no_answer_among_those_that_have(tmp_path):
    predictor = Predictor(tiny_model(vouching=certified(0.0)))
    results = predictor.predict([noise(1), b"", noise(2)], precision=0.9)
    assert [result.answer_level for result in results] == ["species", None, "species"]
    assert results[1].error and results[1].answer is None
    with pytest.raises(ImageError):
        predictor.predict(b"", precision=0.9)


@pytest.mark.parametrize(
    ("vouching", "precision", "said"),
    [
        (None, 0.9, "precision: 0.9 cannot be vouched for: no images were held out"),
        (Vouching((20,) * len(GRID), (0,) * len(GRID)), 0.9, "it needs 22 counted answers without a mistake"),
        (Vouching((900,) * len(GRID), (400,) * len(GRID)), 0.9, "this model errs too often"),
        (certified(0.5), 1.0, "precision: 1.0; it must lie between 0 and 1"),
        (certified(0.5), 95, "precision: 95; it must lie between 0 and 1"),
    ],
)
def test_a_precision_that_cannot_be_vouched_for_is_refused_before_any_work(vouching, precision, said):
    predictor = Predictor(Model(Untouched(), {}, EvalResize(8), vouching=vouching))
    for ask in (predictor.predict, predictor.predict_iter):
        with pytest.raises(UsageError, match=said) as caught:
            ask(untouched(), precision=precision)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=said):
        predictor.predict("gone.jpg", precision=precision)


def test_few_images_vouch_for_a_low_precision_and_a_larger_delta():
    predictor = Predictor(Model(Untouched(), {}, EvalResize(8), vouching=Vouching((20,) * 201, (0,) * 201)))
    assert predictor.threshold(0.8) == 0  # 0.8 ** 20 = 0.01
    assert predictor.threshold(0.9, delta=0.2) == 0  # 0.9 ** 20 = 0.12
    with pytest.raises(UsageError, match="cannot be vouched for"):
        predictor.threshold(0.9)


def softmax(logits, allowed):
    powers = [math.exp(x) if kept else 0.0 for x, kept in zip(logits, allowed, strict=True)]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(
    ("names", "leaves"),
    [
        (["Siskin", "Barn Owl"], [1, 4]),
        (["Carduelis"], [0, 1]),
        (["Owls", "Tawny Owl"], [3, 4]),
        (["Finches > Fringilla", "Tyto"], [2, 4]),
        (["Finches", "Owls"], [0, 1, 2, 3, 4]),
    ],
)
def test_only_allowed_classes_share_the_probability_at_every_level(names, leaves):
    families, species = [0.3, 1.0], [2.0, 0.5, -1.0, 0.0, 1.0]
    predictor = Predictor(Model(TwoLevels(families, species), {}, EvalResize(8)))
    assert predictor.allow(["Brambling"]) == 1
    assert predictor.allow(iter(names)) == len(leaves)  # the last call counts
    scores, _ = predictor.scores(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    allowed = [leaf in leaves for leaf in range(5)]
    expected = softmax(species, allowed)
    genera = {}
    for path, share in zip(LEAVES, expected, strict=True):
        genera[path[1]] = genera.get(path[1], 0.0) + share
    # The family has logits of its own: they are restricted too.
    kept = [any(allowed[:3]), any(allowed[3:])]
    for row in range(2):
        assert scores["species"][row].tolist() == pytest.approx(expected, abs=1e-6)
        assert scores["genus"][row].tolist() == pytest.approx(list(genera.values()), abs=1e-6)
        assert scores["family"][row].tolist() == pytest.approx(softmax(families, kept), abs=1e-6)
        assert all(scores["species"][row, leaf] == 0 for leaf in range(5) if leaf not in leaves)
        assert scores["family"][row, [not keep for keep in kept]].sum() == 0
        assert all(float(values[row].sum()) == pytest.approx(1) for values in scores.values())


def test_guesses_are_allowed_classes_only_even_where_they_have_no_probability_left():
    # Of the first two, only the second may be answered, and exp(-200) is 0 in float32.
    predictor = Predictor(Model(TwoLevels([9.0, 0.0], [0.0, -200.0, 300.0, 0.0, 1.0]), {}, EvalResize(8)))
    predictor.allow(["Siskin", "Owls"])
    result = predictor.predict(noise(0), top_k=5)
    assert [guess.label for guess in result.top] == ["Barn Owl", "Tawny Owl", "Siskin"]
    assert result.top[2].score == 0 and sum(guess.score for guess in result.top) == pytest.approx(1)
    assert list(result.lineage.values()) == ["Owls", "Tyto", "Barn Owl"]
    assert result.lineage_scores["family"] == pytest.approx(1 / (1 + math.exp(9.0)), rel=1e-4)
    assert len(predictor.predict(noise(0), top_k=2).top) == 2


def test_a_name_that_is_repeated_below_itself_allows_all_that_lies_below():
    leaves = [("Owls", "Strix", "Tawny Owl"), ("Owls", "Owls", "Owls"), ("Mints", "Strix", "Strix")]
    predictor = Predictor(tiny_model(taxonomy=Taxonomy(["order", "genus", "species"], leaves)))
    assert predictor.allow(["Owls"]) == 2
    assert predictor.predict(noise(0)).lineage["order"] == "Owls"
    assert predictor.allow(["Owls > Owls > Owls"]) == 1
    with pytest.raises(UsageError, match="allow: 2 classes are called 'Strix'; give a path: "):
        predictor.allow(["Strix"])
    assert predictor.predict(noise(0)).label == "Owls"  # a refused list changes nothing


def test_names_that_cannot_be_allowed_are_refused():
    predictor = Predictor(tiny_model())
    for names in ([], {}, iter(())):
        with pytest.raises(UsageError, match="allow: no class is named"):
            predictor.allow(names)
    with pytest.raises(UsageError, match=r"^allow: unknown class 'Barn Ow'; did you mean 'Barn Owl'"):
        predictor.allow(["Siskin", "Barn Ow"])
    with pytest.raises(UsageError, match=r"^list.csv, row 7: unknown class 'siskin'; did you mean 'Siskin'"):
        predictor.allow({"Tyto": "list.csv, row 6", "siskin": "list.csv, row 7"})


def test_an_answer_is_one_of_the_allowed():
    predictor = Predictor(tiny_model(vouching=certified(0.5)))
    predictor.allow(["Owls"])
    answers = {result.answer for result in predictor.predict([noise(seed) for seed in range(8)], precision=0.9)}
    assert answers <= {"Owls", "Strix", "Tyto", "Tawny Owl", "Barn Owl"} and "unknown" not in answers
