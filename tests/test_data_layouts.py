"""Whatever layout a competition comes in, the same images give the same store."""

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from competition import image, png, two_classes, write_folders, write_zips
from sklearn.datasets import load_digits

from pipeline.config.data import DataConfig
from pipeline.data.decode import content_hash
from pipeline.data.pack import pack
from pipeline.data.store import Packed

NDSB = Path(__file__).parents[2] / "shared" / "data" / "ndsb"


def packed(base: Path, **options: object) -> Packed:
    return pack(DataConfig(**{"source": "folder", "path": str(base), **options}), base.parent / "packed")


def test_folders_round_trip_every_pixel_in_the_order_of_ids(tmp_path: Path) -> None:
    store = packed(write_folders(tmp_path / "raw", two_classes()))
    assert (store.n_train, store.n_test, store.classes, store.channels) == (6, 3, ["cat", "dog"], 1)
    assert store.table["id"].tolist() == ["0", "1", "2", "3", "4", "5", "10", "11", "12"]
    assert store.table["label"].tolist() == ["dog", "cat"] * 3 + [None] * 3
    assert store.labels.tolist() == [1, 0, 1, 0, 1, 0]
    for row, name in enumerate(store.table["id"]):
        expected = image(int(name), height=4 + int(name))[:, :, None]
        np.testing.assert_array_equal(store.image(row), expected)
        assert store.table["content_hash"][row] == content_hash(expected)


@pytest.mark.parametrize("leading_folder", [True, False])
def test_zips_are_read_in_place_and_give_the_same_bytes_as_folders(tmp_path: Path, leading_folder: bool) -> None:
    one = packed(write_folders(tmp_path / "a" / "raw", two_classes()))
    two = packed(write_zips(tmp_path / "b" / "raw", two_classes(), leading_folder=leading_folder))
    assert one.digest == two.digest
    for name in ("pixels.bin", "images.parquet", "meta.json"):
        assert (tmp_path / "a/packed" / name).read_bytes() == (tmp_path / "b/packed" / name).read_bytes()


def test_a_folder_inside_the_folder_of_the_same_name_is_unwrapped(tmp_path: Path) -> None:
    files = {f"{name.split('/')[0]}/{name}": data for name, data in two_classes().items()}
    assert packed(write_folders(tmp_path / "raw", files)).table["label"].tolist() == ["dog", "cat"] * 3 + [None] * 3


def test_test_images_may_lie_in_a_folder_that_is_no_class(tmp_path: Path) -> None:
    files = {name.replace("test/", "test/images/"): data for name, data in two_classes().items()}
    store = packed(write_folders(tmp_path / "raw", files), ids="path")
    assert store.table["id"].tolist()[store.n_train:] == ["10", "11", "12"]


def test_ids_by_path_keep_names_apart_that_repeat_between_classes(tmp_path: Path) -> None:
    files = {"train/cat/1.png": png(image(1)), "train/dog/1.png": png(image(2)), "test/1.png": png(image(3))}
    store = packed(write_folders(tmp_path / "raw", files), ids="path")
    assert store.table["id"].tolist() == ["cat/1", "dog/1", "1"]


def test_colours_are_stored_as_rgb_and_inverted_on_request(tmp_path: Path) -> None:
    files = {f"train/{c}/{c}.png": png(image(i, channels=3)) for i, c in enumerate("ab")} | {
        "test/t.png": png(image(2, channels=3))}
    base = write_folders(tmp_path / "raw", files)
    np.testing.assert_array_equal(packed(base, channels="rgb").image(0), image(0, channels=3))
    np.testing.assert_array_equal(packed(base, channels="rgb", invert=True).image(2), 255 - image(2, channels=3))
    grey = cv2.cvtColor(image(1, channels=3), cv2.COLOR_RGB2GRAY)
    assert np.abs(packed(base).image(1)[:, :, 0].astype(int) - grey).max() <= 1
    assert packed(base).image(1).shape == (7, 5, 1)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp", ".tif", ".webp", ".PNG"])
def test_other_image_formats_are_read(tmp_path: Path, suffix: str) -> None:
    flat = np.full((6, 9), 77, np.uint8)
    encoded = cv2.imencode(suffix.lower(), flat)[1].tobytes()
    files = {f"train/a/1{suffix}": encoded, "train/b/2.png": png(image(1)), "test/3.png": png(image(2))}
    store = packed(write_folders(tmp_path / "raw", files))
    assert store.image(0).shape == (6, 9, 1)
    assert np.abs(store.image(0).astype(int) - 77).max() <= 2


def test_csv_finds_images_by_id_with_or_without_suffix_and_keeps_odd_classes(tmp_path: Path) -> None:
    files = {f"img/{i:03d}.png": png(image(i)) for i in range(5)}
    base = write_folders(tmp_path / "raw", files | {
        "train.csv": b"name,kind,site\n002.png,NA,s1\n000,None,s2\n001,NA,s1\n"})
    options = {"source": "csv", "train_csv": "train.csv", "images": "img", "id_column": "name",
               "label_column": "kind", "group_column": "site"}
    store = packed(base, **options)
    assert store.table["id"].tolist() == ["000", "001", "002", "003", "004"]
    assert store.table["label"].tolist() == ["None", "NA", "NA", None, None]
    assert store.table["group"].tolist() == ["s2", "s1", "s1", None, None]
    np.testing.assert_array_equal(store.image(2)[:, :, 0], image(2))

    (base / "test.csv").write_text("name\n004\n")
    assert packed(base, **options, test_csv="test.csv").table["id"].tolist() == ["000", "001", "002", "004"]


def test_csv_images_may_be_a_zip(tmp_path: Path) -> None:
    base = write_zips(tmp_path / "raw", two_classes(), leading_folder=True)
    (base / "labels.csv").write_text("id,label\n1,a\n2,b\n3,a\n")
    store = packed(base, source="csv", train_csv="labels.csv", images="train")
    assert (store.n_train, store.n_test) == (3, 3)


def test_digits_need_no_files_and_lose_nothing(tmp_path: Path) -> None:
    digits = load_digits()
    store = pack(DataConfig(source="digits", path="."), tmp_path / "packed")
    assert (store.n_train, store.n_test, store.classes) == (1437, 360, [str(d) for d in range(10)])
    for row in (0, 1436, 1437, 1796):
        index = int(store.table["id"][row].removeprefix("digit_"))
        np.testing.assert_array_equal(store.image(row)[:, :, 0], np.rint(digits.images[index] * 255 / 16))
        assert store.table["label"][row] == (str(digits.target[index]) if row < 1437 else None)
    counts = np.bincount(store.labels)
    assert counts.min() >= 139
    assert counts.max() <= 147


def test_the_sample_submission_is_kept_in_its_own_order_and_spelling(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes())
    (base / "sample.csv.gz").write_bytes(gzip.compress(b"image,dog,cat\n12.png,.5,.5\n10.png,.5,.5\n11.png,.5,.5\n"))
    packed(base, sample_submission="sample.csv.gz")
    written = (tmp_path / "packed" / "sample_submission.csv").read_text()
    assert written == "image,dog,cat\n12.png,.5,.5\n10.png,.5,.5\n11.png,.5,.5\n"


@pytest.mark.skipif(not NDSB.is_dir(), reason="the plankton images are not at hand")
def test_the_plankton_competition_is_listed_from_its_zips(tmp_path: Path) -> None:
    from contextlib import ExitStack

    from pipeline.data.pack import list_competition

    config = DataConfig(source="folder", path=str(NDSB), invert=True, sample_submission="sampleSubmission.csv.zip")
    with ExitStack() as stack:
        listing = list_competition(config, stack=stack)
        train = [r for r in listing.records if r.split == "train"]
        assert (len(train), len(listing.records) - len(train)) == (27_299, 3_037)
        assert len({r.label for r in train}) == 121
        assert not listing.problems
        assert not listing.bad
        assert cv2.imdecode(np.frombuffer(train[0].read(), np.uint8), cv2.IMREAD_GRAYSCALE).ndim == 2


def test_meta_says_what_was_packed(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes() | {"train/cat/notes.txt": b"hello"})
    store = packed(base, invert=True)
    assert json.loads((tmp_path / "packed" / "meta.json").read_text()) == {
        "digest": store.digest, "classes": ["cat", "dog"], "channels": 1,
        "counts": {"classes": 2, "train": 6, "test": 3}, "source": "folder", "invert": True,
        "ignored_files": 1, "skipped": [],
    }
