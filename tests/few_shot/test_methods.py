import pytest

from fgvc.errors import UsageError
from fgvc.few_shot.methods import method, shipped
from fgvc.methods.few_shot.prototypes import PrototypeClassifier


def test_a_stem_and_a_file_name_a_method(tmp_path):
    one = method("cosine_prototypes")
    made = one.make(8)
    assert one.name == "cosine_prototypes" and isinstance(made, PrototypeClassifier) and made.distance == "cosine"
    file = tmp_path / "mine.yaml"
    file.write_text("classifier: {class_path: PrototypeClassifier, init_args: {scale: 2.0}}\nfeatures: l2\n")
    assert (method(str(file)).features, method(str(file)).make(8).scale) == ("l2", 2.0)


def test_every_shipped_method_can_be_made():
    assert {"prototypes", "cosine_prototypes"} <= shipped().keys()
    for stem in shipped():
        assert method(stem).make(16).in_channels == 16


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("classifier: {class_path: LinearHead}", "LinearHead is no few-shot classifier"),
        ("classifier: {class_path: os.system}", "no class 'os.system' in fgvc"),
        ("classifier: {class_path: PrototypeClassifier, init_args: {distanc: cosine}}", "did you mean 'distance'"),
        ("model: {}", "holds the keys classifier"),
        ("- 1", "holds the keys classifier"),
        ("features: cln\nclassifier: {class_path: PrototypeClassifier}", "give one of raw, l2, cl2n"),
        ("classifier: [", "no YAML"),
    ],
)
def test_a_file_that_describes_no_method_is_refused(tmp_path, text, told):
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match="odd") as error:
        method(str(file))
    assert told in str(error.value)


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match="--method prototype: no such few-shot method; did you mean 'prototypes'"):
        method("prototype")
    with pytest.raises(UsageError, match="cannot be read"):
        method("none.yaml")
