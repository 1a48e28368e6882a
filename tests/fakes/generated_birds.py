def make_fake(root):
    few = {"num_orders": 2, "families_per_order": 1, "genera_per_family": 1, "species_per_genus": 2}
    small = {"train_per_class": 2, "val_per_class": 1, "test_per_class": 1, "image_size": 128, "num_processes": 1}
    return {"root": str(root), **few, **small}
