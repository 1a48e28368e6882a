from fake_cub import make_fake_cub


def make_fake(root):
    return {"root": str(make_fake_cub(root / "CUB_200_2011", images_per_class=2))}
