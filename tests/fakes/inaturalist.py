import json

from fakes.tiny_run import make_photos

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")


def make_fake(root):
    """iNaturalist 2021 (mini): annotation files, and pictures in `train_mini/` and `val/`."""
    photos = make_photos(root / "photos", train=4, val=2, test=0)
    species = sorted({path.parent.name for path in photos.rglob("*.png")})
    categories = [
        {
            "id": i,
            "name": name,
            "common_name": f"bird {i}",
            "supercategory": "Birds",
            **{rank: f"a {rank}" for rank in RANKS},
            "genus": name.split()[0],
            "specific_epithet": name.split()[1],
            "image_dir_name": f"{i:05d}_Animalia_{name.replace(' ', '_')}",
        }
        for i, name in enumerate(species)
    ]
    for split, folder in {"train": "train_mini", "val": "val"}.items():
        images, labels = [], []
        for number, path in enumerate(sorted((photos / split).rglob("*.png"))):
            label = species.index(path.parent.name)
            target = f"{folder}/{categories[label]['image_dir_name']}/{path.name}"
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            path.rename(root / target)
            images.append({"id": number, "file_name": target, "width": 48, "height": 40})
            labels.append({"id": number, "image_id": number, "category_id": label})
        content = {"info": {"year": 2021}, "images": images, "annotations": labels, "categories": categories}
        (root / f"{folder}.json").write_text(json.dumps(content), encoding="utf-8")
    return {"root": str(root)}
