import pytest
from fakes.tiny_run import make_photos

from fgvc.data.relabelled import Relabelled
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.data.sources.table import Table
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

# The classes of the model, in an order of their own, with one that no photograph shows, and a name that two share.
MODEL = Taxonomy(
    ("genus", "species"),
    [
        ("Sterna", "Sterna hirundo"),
        ("Sterna", "juvenile"),
        ("Larus", "Larus fuscus"),
        ("Larus", "Larus canus"),
        ("Larus", "juvenile"),
    ],
)


def names(source):
    records = source.records("test")
    return [(records.relative_path(i).split("/")[-2:], MODEL.path(records.labels[i])) for i in range(len(records))]


def folder(root, **classes):
    """Write `root/<class>/*.png` for each class with its number of pictures."""
    from PIL import Image

    for name, number in classes.items():
        place = root / name.replace("_", " ")
        place.mkdir(parents=True)
        for i in range(number):
            Image.new("RGB", (8, 8)).save(place / f"{i}.png")
    return root


def test_class_folders_get_the_labels_of_the_model_by_their_names(tmp_path):
    source = ImageFolder(str(folder(tmp_path / "new", Sterna_hirundo=2, Larus_canus=1, Larus=1)), test_fraction=0)
    found = Relabelled(source, MODEL, "new")
    assert found.splits == ("test",) and found.taxonomy is MODEL
    assert names(found) == [
        (["Larus canus", "0.png"], ("Larus", "Larus canus")),
        (["Larus", "0.png"], ("Larus",)),  # known to its genus only
        (["Sterna hirundo", "0.png"], ("Sterna", "Sterna hirundo")),
        (["Sterna hirundo", "1.png"], ("Sterna", "Sterna hirundo")),
    ]


def test_of_data_with_splits_the_test_is_taken(tmp_path):
    make_photos(tmp_path / "photos", train=2, val=1, test=3)
    source = ImageFolder(str(tmp_path / "photos"), levels=["genus", "species"])
    found = names(Relabelled(source, MODEL, "photos"))
    assert len(found) == 9 and all(name == path[1] for (name, _), path in found)
    without = ImageFolder(str(tmp_path / "photos"), splits={"train": "train", "val": "val"})
    with pytest.raises(UsageError, match="photos: has train, val but no test split; give the folder to test on"):
        Relabelled(without, MODEL, "photos")


def test_a_name_that_two_classes_share_is_found_by_its_path(tmp_path):
    folder(tmp_path / "new" / "Larus", juvenile=1)
    nested = ImageFolder(str(tmp_path / "new"), levels=["genus", "species"], test_fraction=0)
    assert names(Relabelled(nested, MODEL, "new")) == [(["juvenile", "0.png"], ("Larus", "juvenile"))]
    flat = ImageFolder(str(tmp_path / "new" / "Larus"), test_fraction=0)
    with pytest.raises(UsageError, match="1 of 1 classes are none that the model knows by one name: 'juvenile'"):
        Relabelled(flat, MODEL, "new")


def test_unknown_classes_are_refused_in_one_line_with_their_images(tmp_path):
    root = folder(tmp_path / "new", Larus_canus=1, Larus_fuscuss=3, Corvus=2)
    with pytest.raises(UsageError) as caught:
        Relabelled(ImageFolder(str(root), test_fraction=0), MODEL, "new")
    assert str(caught.value) == (
        "new: 2 of 3 classes are none that the model knows by one name: 'Corvus' (2 images), 'Larus fuscuss' "
        "(3 images); rename or remove them"
    )


def test_a_table_of_test_rows_alone(tmp_path):
    folder(tmp_path / "pictures", x=2)
    text = "path,label,split\npictures/x/0.png,Larus canus,test\npictures/x/1.png,Larus,test\n"
    (tmp_path / "t.csv").write_text(text)
    found = Relabelled(Table(str(tmp_path / "t.csv"), test_fraction=0), MODEL, "t.csv")
    assert [path for _, path in names(found)] == [("Larus", "Larus canus"), ("Larus",)]
    with pytest.raises(UsageError, match="no row of column 'split' says train"):
        Table(str(tmp_path / "t.csv"))
