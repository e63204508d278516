"""A user's mistakes in the data: one clear line each, all of them at once, and nothing half-written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from competition import image, png, two_classes, write_folders, write_zips

from pipeline.config.data import DataConfig
from pipeline.data.pack import pack
from pipeline.data.store import open_packed
from pipeline.errors import UserError


def refusal(base: Path, **options: object) -> list[str]:
    """The lines of the UserError; nothing may be left behind."""
    target = base.parent / "out" / "packed"
    with pytest.raises(UserError) as caught:
        pack(DataConfig(**{"source": "folder", "path": str(base), **options}), target)
    assert not target.exists()
    assert not list(base.parent.glob("out/.*"))
    return str(caught.value).splitlines()


def only_line(base: Path, **options: object) -> str:
    lines = refusal(base, **options)
    assert len(lines) == 1, lines
    return lines[0]


def test_missing_data_folder_says_what_belongs_there(tmp_path: Path) -> None:
    base = tmp_path / "raw"
    assert only_line(base, sample_submission="sample.csv") == (
        f"data.path: there is no folder '{base}'; fix: create it with train/<class>/<id>.jpg (or train.zip), "
        f"test/<id>.jpg (or test.zip), sample.csv, or correct data.path in params.yaml")


def test_all_missing_inputs_are_reported_at_once(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", {"readme.txt": b""})
    lines = refusal(base, sample_submission="sample.csv")
    assert [line.split(" is missing")[0] for line in lines] == [
        str(base / "train"), str(base / "test"), str(base / "sample.csv")]


def test_broken_empty_and_duplicated_files_are_listed_together(tmp_path: Path) -> None:
    files = two_classes()
    cut = files["train/cat/1.png"]
    base = write_folders(tmp_path / "raw", files | {
        "train/dog/0.png": b"", "train/cat/1.png": cut[:-20], "test/10.png": b"no image",
        "train/cat/2.png": png(image(99))})
    lines = refusal(base)
    assert lines == [
        f"1 x cannot be decoded: '{base}/test/10.png'; "
        f"fix: repair or remove them, or set data.on_bad_image: skip",
        f"1 x duplicated id: '{base}/train/dog/2.png (also {base}/train/cat/2.png)'; "
        f"fix: remove or rename them, or set data.ids: path where names repeat between folders, "
        f"or set data.on_bad_image: skip",
        f"1 x empty file (0 bytes): '{base}/train/dog/0.png'; "
        f"fix: repair or remove them, or set data.on_bad_image: skip",
        f"1 x truncated: '{base}/train/cat/1.png'; fix: repair or remove them, or set data.on_bad_image: skip",
    ]


def test_skip_records_what_was_skipped_and_keeps_the_rest(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes() | {
        "train/dog/0.png": b"", "test/10.png": b"no image", "train/cat/2.png": png(image(99))})
    store = pack(DataConfig(source="folder", path=str(base), on_bad_image="skip"), tmp_path / "packed")
    assert store.table["id"].tolist() == ["1", "2", "3", "4", "5", "11", "12"]
    assert store.table["label"].tolist()[1] == "cat"
    meta = (tmp_path / "packed" / "meta.json").read_text()
    assert meta.count('"reason"') == 3
    for text in ("empty file (0 bytes)", "cannot be decoded", f"duplicated id (also {base}/train/cat/2.png)"):
        assert text in meta


def test_skipping_may_not_empty_a_class_or_the_test_set(tmp_path: Path) -> None:
    files = {name: b"" if "dog" in name or "test" in name else data for name, data in two_classes().items()}
    lines = refusal(write_folders(tmp_path / "raw", files), on_bad_image="skip")
    assert [line.split(";")[0] for line in lines] == [
        "1 classes have only images that must be skipped: 'dog'", "every test image must be skipped"]


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes())
    (base / "train" / "eel").mkdir()
    assert only_line(base) == (
        f"{base}/train: 1 classes without an image: 'eel'; fix: add images or remove the folder")


def test_a_class_in_test_only_is_refused_and_the_nearest_is_named(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes() | {"test/cats/20.png": png(image(20))})
    assert only_line(base) == (
        f"{base}/test: 1 classes are in test only: 'cats'; did you mean 'cat'?; "
        f"fix: add them to train, or put the images directly into test/")


@pytest.mark.parametrize("name", ["id", "fold"])
def test_class_names_that_clash_with_columns_are_refused(tmp_path: Path, name: str) -> None:
    base = write_folders(tmp_path / "raw", two_classes() | {f"train/{name}/30.png": png(image(30))})
    assert f"'{name}' cannot be a class name" in only_line(base)


def test_one_class_is_not_a_competition(tmp_path: Path) -> None:
    files = {name: data for name, data in two_classes().items() if "dog" not in name}
    assert only_line(write_folders(tmp_path / "raw", files)) == (
        f"{tmp_path}/raw: found 1 classes ('cat'), at least 2 are needed")


def test_images_outside_of_class_folders_are_refused(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes() | {"train/stray.png": png(image(1))})
    assert only_line(base).startswith(f"{base}/train: 1 images lie in no class folder: '{base}/train/stray.png'")


def test_a_broken_zip_is_named(tmp_path: Path) -> None:
    base = write_zips(tmp_path / "raw", two_classes(), leading_folder=True)
    (base / "test.zip").write_bytes((base / "test.zip").read_bytes()[:40])
    assert only_line(base).startswith(f"{base}/test.zip is not a readable zip file")


def test_a_damaged_entry_of_a_zip_is_a_bad_image(tmp_path: Path) -> None:
    base = write_zips(tmp_path / "raw", two_classes(), leading_folder=True)
    data = bytearray((base / "test.zip").read_bytes())
    start = data.index(b"\x89PNG")
    data[start + 40] ^= 0xFF
    (base / "test.zip").write_bytes(bytes(data))
    assert only_line(base).startswith(f"1 x cannot be read: '{base}/test.zip:test/10.png (Bad CRC-32")


@pytest.mark.parametrize(("sample", "said"), [
    ("id,cat,dog\n10,1,0\n11,1,0\n", "1 test images are not in the sample: '12'"),
    ("id,cat,dog\n10,1,0\n11,1,0\n12,1,0\n99,1,0\n", "1 ids are not among the test images: '99'"),
    ("id,cat,dog\n10,1,0\n11,1,0\n12,1,0\n12,1,0\n", "1 duplicated ids: '12'"),
    ("id,cat,dogs\n10,1,0\n11,1,0\n12,1,0\n", "1 foreign classes: 'dogs'; did you mean 'dog'?"),
    ("id,cat\n10,1\n11,1\n12,1\n", "1 missing classes: 'dog'"),
])
def test_a_sample_submission_of_another_competition_is_refused(tmp_path: Path, sample: str, said: str) -> None:
    base = write_folders(tmp_path / "raw", two_classes() | {"sample.csv": sample.encode()})
    assert f"{base}/sample.csv: {said}" in refusal(base, sample_submission="sample.csv")


@pytest.mark.parametrize(("train", "test", "said"), [
    ("id,label\n0,a\n1,b\n7,a\n", None, "1 x no such image: 'train id '7''"),
    ("id,label\n0,a\n1,b\n1,a\n", None, "1 x duplicated id: '{base}/1.png (also {base}/1.png)'"),
    ("id,label\n0,a\n1,b\n2,\n", None, "train.csv: 1 rows without a label: '2'"),
    ("id,lable\n0,a\n1,b\n", None, "{base}/train.csv: no column 'label'; it has 'id', 'lable'; did you mean 'lable'?"),
    ("id,label\n0,a\n1,b\n2,a\n3,b\n", None, "{base}: every image is named in {base}/train.csv"),
    ("id,label\n0,aa\n1,bb\n", "id,label\n2,ab\n3,bb\n", "test.csv: 1 classes are in test only: 'ab'"),
    ("id,label\n0,a\n1,b\n", "", "{base}/test.csv is not a readable CSV table"),
])
def test_mistakes_in_tables(tmp_path: Path, train: str, test: str | None, said: str) -> None:
    base = write_folders(tmp_path / "raw", {f"{i}.png": png(image(i)) for i in range(4)})
    (base / "train.csv").write_text(train)
    if test is not None:
        (base / "test.csv").write_text(test)
    line = only_line(base, source="csv", train_csv="train.csv", test_csv=None if test is None else "test.csv")
    assert line.startswith(said.format(base=base))


def test_missing_tables_and_images_are_reported_at_once(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", {"readme.txt": b""})
    lines = refusal(base, source="csv", train_csv="train.csv", test_csv="test.csv", images="img")
    assert [line.split(";")[0] for line in lines] == [
        f"{base}/train.csv is missing", f"{base}/test.csv is missing", f"{base}/img: no images there (data.images)"]


def test_a_refused_run_keeps_the_store_that_was_there(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "raw", two_classes())
    config = DataConfig(source="folder", path=str(base))
    before = pack(config, tmp_path / "packed").digest
    (base / "test" / "10.png").write_bytes(b"")
    with pytest.raises(UserError):
        pack(config, tmp_path / "packed")
    assert open_packed(tmp_path / "packed").digest == before


def damage_pixels(store: Path) -> None:
    (store / "pixels.bin").write_bytes((store / "pixels.bin").read_bytes()[:-1])


def damage_table(store: Path) -> None:
    meta = (store / "meta.json").read_text()
    (store / "meta.json").write_text(meta.replace('"dog"', '"cow"'))


def damage_by_removal(store: Path) -> None:
    (store / "images.parquet").unlink()


def damage_by_truncation(store: Path) -> None:
    (store / "images.parquet").write_bytes((store / "images.parquet").read_bytes()[:50])


@pytest.mark.parametrize(("damage", "said"), [
    (damage_pixels, r"pixels.bin has \d+ bytes, images.parquet expects \d+"),
    (damage_table, "images.parquet has digest [0-9a-f]+, meta.json expects [0-9a-f]+"),
    (damage_by_removal, "not a complete packed store"),
    (damage_by_truncation, "not a complete packed store"),
])
def test_a_damaged_store_is_refused(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    base = write_folders(tmp_path / "raw", two_classes())
    pack(DataConfig(source="folder", path=str(base)), tmp_path / "packed")
    damage(tmp_path / "packed")
    with pytest.raises(UserError, match=f"{said}.*fix: dvc repro"):
        open_packed(tmp_path / "packed")
