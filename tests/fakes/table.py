from fakes.tiny_run import make_photos


def make_fake(root):
    photos = make_photos(root / "photos", train=6, val=0, test=0)
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (photos / "photos.csv").write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    return {"path": str(photos / "photos.csv")}
