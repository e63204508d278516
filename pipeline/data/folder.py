"""One folder per class, as Kaggle hands it out: `train/<class>/<id>.jpg` and `test/<id>.jpg`, folders or zips."""

from contextlib import ExitStack
from pathlib import Path

from pipeline.config.data import DataConfig
from pipeline.data.files import ImageFile, Tree, open_tree
from pipeline.data.records import Listing, Record, record_id
from pipeline.errors import UserError, listed, nearest

UNLABELLED = ("all", "images", "test", "unknown", "unlabeled", "unlabelled")


def list_folder(config: DataConfig, *, stack: ExitStack) -> Listing:
    """Records below `data.path`: training rows take the top folder as class, test rows have none.

    `train` and `test` are directories, or else `train.zip` and `test.zip`, read in place. Test files lie directly
    in `test`, or in one folder whose name says that it is no class (UNLABELLED), or in folders named like the
    training classes (as sorted benchmarks have them; those labels are not used).
    """
    base = Path(config.path)
    listing = Listing()
    trees: dict[str, Tree] = {}
    for split, layout in (("train", "train/<class>/<id>.jpg"), ("test", "test/<id>.jpg")):
        try:
            tree = open_tree(base, split, stack=stack)
        except UserError as error:
            listing.problems.append(str(error))
            continue
        if tree is None:
            listing.problems.append(f"{base / split} is missing; fix: put {layout} there, or the same as {split}.zip")
        elif not tree.files and not tree.folders:
            listing.problems.append(f"{tree.name} holds no images; expected {layout}")
        else:
            trees[split] = tree
            listing.ignored_files += tree.ignored_files
    if "train" in trees:
        _add_training(listing, trees["train"], config)
    if "test" in trees:
        _add_test(listing, trees["test"], config, set(trees["train"].folders) if "train" in trees else None)
    return listing


def _add_training(listing: Listing, tree: Tree, config: DataConfig) -> None:
    loose = [f.name for f in tree.files if len(f.path.parts) == 1]
    if loose:
        listing.problems.append(f"{tree.name}: {len(loose)} images lie in no class folder: {listed(loose)}; "
                                f"expected train/<class>/<id>.jpg")
    in_classes = [f for f in tree.files if len(f.path.parts) > 1]
    filled = {f.path.parts[0] for f in in_classes}
    empty = [name for name in tree.folders if name not in filled]
    if empty:
        listing.problems.append(f"{tree.name}: {len(empty)} classes without an image: {listed(empty)}; "
                                f"fix: add images or remove the folder")
    listing.records += [Record(record_id(f.path, config.ids), f.path.parts[0], "train", f.name, f.read)
                        for f in in_classes]


def _add_test(listing: Listing, tree: Tree, config: DataConfig, classes: set[str] | None) -> None:
    foreign = [] if classes is None else [n for n in tree.folders if n not in classes and n not in UNLABELLED]
    if foreign:
        listing.problems.append(
            f"{tree.name}: {len(foreign)} classes are in test only: {listed(foreign)}"
            f"{nearest(foreign[0], classes or ())}; fix: add them to train, or put the images directly into test/")
    listing.records += [Record(_test_id(f, config), None, "test", f.name, f.read) for f in tree.files]


def _test_id(file: ImageFile, config: DataConfig) -> str:
    wrapped = len(file.path.parts) > 1 and file.path.parts[0] in UNLABELLED
    return record_id(file.path.relative_to(file.path.parts[0]) if wrapped else file.path, config.ids)
