from fgvc.data.inspection.names import name_of_parent, suspicious_names
from fgvc.taxonomy.tree import Taxonomy


def kinds(taxonomy):
    return [(problem.problem, problem.label) for problem in suspicious_names(taxonomy)]


def test_good_names_are_not_suspicious():
    tree = Taxonomy(("genus", "species"), [("Larus", "Larus canus"), ("Sterna", "canus"), ("Tester", "Trainer bird")])
    assert kinds(tree) == [] and name_of_parent(tree) == []


def test_each_kind_is_told_once():
    tree = Taxonomy(
        ("genus", "species"),
        [("Larus", "Herring Gull"), ("Larus", "herring_gull"), ("larus", "Herring Gull"), ("None", "x"),
         ("Anas", "Anas"),
         ("Anas", "val")],
    )  # fmt: skip
    assert kinds(tree) == [
        ("similar_names", "larus"),
        ("similar_names", "Larus > herring_gull"),
        ("no_name", "None"),
        ("split_name", "val"),
    ]
    assert name_of_parent(tree) == ["Anas"]
