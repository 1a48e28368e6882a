from fakes.tiny_run import make_photos


def make_fake(root):
    return {"root": str(make_photos(root / "photos", train=4, val=0, test=2))}
