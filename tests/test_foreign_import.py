"""`import-member` and `export-member`: the way there and back, and a clear line, with nothing written, for the rest."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from competition import image, png, write_folders
from ruamel.yaml import YAML

from pipeline import cli
from pipeline.closure import ROOT
from pipeline.errors import UserError
from pipeline.members import Member, read_member, write_member
from pipeline.stages import check, collect, folds, foreign, prepare
from pipeline.stages.competition import load_competition

CLASSES = ["cat", "dog", "frog"]
TRAIN = [f"{name}{i}" for name in "cdf" for i in range(4)]
TEST = [f"t{i}" for i in range(5)]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A competition of twelve rows and three classes, packed and cut into folds; params.yaml with comments."""
    base = tmp_path_factory.mktemp("start")
    files = {f"train/{c}/{c[0]}{i}.png": png(image(10 * k + i)) for k, c in enumerate(CLASSES) for i in range(4)}
    write_folders(base / "data/raw", files | {f"test/{name}.png": png(image(90 + i)) for i, name in enumerate(TEST)})
    params = (ROOT / "presets/smoke.yaml").read_text()
    params = params.replace("source: digits\n  path: data/digits", "source: folder   # ours\n  path: data/raw")
    (base / "params.yaml").write_text(params)
    (base / "pretrained").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        prepare.run()
        folds.run()
    return base


@pytest.fixture
def project(start, tmp_path, monkeypatch):
    """A copy of `start`, the working directory, with good tables of another tool: their.oof.csv, their.test.csv."""
    monkeypatch.chdir(shutil.copytree(start, tmp_path / "project"))
    tables()
    return tmp_path / "project"


def tables(change_oof=lambda t: t, change_test=lambda t: t) -> dict[str, pd.DataFrame]:
    """Writes both tables, changed, and returns them: dirichlet rows in another order than ours, ids as file names."""
    random = np.random.default_rng(0)
    fold = pd.read_csv("folds/folds.csv").set_index("id")["fold"]
    made = {}
    for part, ids, change in (("oof", TRAIN[::-1], change_oof), ("test", TEST[::-1], change_test)):
        table = pd.DataFrame(random.dirichlet(np.ones(3), size=len(ids)).astype(np.float32), columns=CLASSES[::-1])
        table.insert(0, "id", [f"images/{i}.png" for i in ids])
        if part == "oof":
            table.insert(1, "fold", fold[ids].to_numpy())
        made[part] = change(table)
        made[part].to_csv(f"their.{part}.csv", index=False)
    return made


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def importing(monkeypatch, *options: str, name: str = "theirs") -> int:
    return run(monkeypatch, "import-member", name, "--oof", "their.oof.csv", "--test", "their.test.csv", *options)


def imported(name: str = "theirs") -> Member:
    return read_member(Path("foreign") / name, load_competition().roster)


def everything(project: Path) -> dict[str, bytes]:
    return {str(p.relative_to(project)): p.read_bytes() for p in project.rglob("*") if p.is_file()}


def test_rows_are_joined_by_id_and_classes_by_name(project, monkeypatch):
    theirs = tables()
    params = Path("params.yaml").read_text()
    assert importing(monkeypatch) == 0
    member = imported()
    np.testing.assert_array_equal(member.oof, theirs["oof"][CLASSES].to_numpy()[::-1])
    np.testing.assert_array_equal(member.test, theirs["test"][CLASSES].to_numpy()[::-1])
    assert Path("params.yaml").read_text() == params + "\nforeign:\n  theirs: {kind: probabilities}\n"
    meta = json.loads(Path("foreign/theirs/meta.json").read_text())
    assert (meta["kind"], meta["folds"], meta["normalised"]) == ("probabilities", "compared", False)
    assert meta["fold_digest"] == load_competition().roster.fold_digest
    assert meta["sources"]["oof"]["file"] == "their.oof.csv"


def test_the_same_folds_may_be_stated(project, monkeypatch):
    tables(lambda t: t.drop(columns="fold"))
    assert importing(monkeypatch, "--same-folds") == 0
    assert json.loads(Path("foreign/theirs/meta.json").read_text())["folds"] == "stated"


def test_a_map_renames_classes_and_counts_are_normalised_on_request(project, monkeypatch):
    def counts(table):
        return table.rename(columns={"cat": "0", "dog": "1"}).assign(**{"0": 3, "1": 1, "frog": 0})

    tables(counts, counts)
    Path("map.csv").write_text("theirs,ours\n0,cat\n1,dog\n")
    assert importing(monkeypatch, "--map", "map.csv", "--normalise") == 0
    np.testing.assert_array_equal(imported().oof, np.tile(np.float32([0.75, 0.25, 0]), (12, 1)))
    assert json.loads(Path("foreign/theirs/meta.json").read_text())["classes"] == {"0": "cat", "1": "dog"}


def test_hard_labels_are_one_hot_votes(project, monkeypatch):
    tables(*[labels("a", "frog")] * 2)
    Path("map.csv").write_text("theirs,ours\na,dog\n")
    assert importing(monkeypatch, "--hard", "--map", "map.csv") == 0
    np.testing.assert_array_equal(imported().oof[::-1], np.tile(np.float32([[0, 1, 0], [0, 0, 1]]), (6, 1)))
    assert YAML(typ="safe").load(Path("params.yaml").read_text())["foreign"] == {"theirs": {"kind": "votes"}}


def test_a_second_import_replaces_the_first(project, monkeypatch):
    assert importing(monkeypatch) == 0
    params = Path("params.yaml").read_bytes()
    theirs = tables(lambda t: t.assign(cat=1.0, dog=0.0, frog=0.0))
    assert importing(monkeypatch) == 0
    np.testing.assert_array_equal(imported().oof, theirs["oof"][CLASSES].to_numpy())
    assert Path("params.yaml").read_bytes() == params
    assert sorted(p.name for p in Path("foreign").iterdir()) == ["theirs"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_export_then_import_gives_the_same_bits(project, monkeypatch, suffix):
    roster = load_competition().roster
    random = np.random.default_rng(1)
    oof, test = (random.dirichlet(np.full(3, 0.02), size=n).astype(np.float32) for n in (12, 5))    # down to denormals
    for source, name in (("oof/net", "net"), ("blends/mean", "blends/mean")):
        write_member(Path(source), Member(name, oof, test), roster)
        files = "--oof", f"out/o.{suffix}", "--test", f"out/t.{suffix}"
        assert run(monkeypatch, "export-member", name, *files) == 0
        assert run(monkeypatch, "import-member", "back", *files) == 0
        np.testing.assert_array_equal(imported("back").oof.view(np.int32), oof.view(np.int32))
        np.testing.assert_array_equal(imported("back").test.view(np.int32), test.view(np.int32))


def test_votes_are_exported_as_labels(project, monkeypatch):
    tables(*[labels("frog")] * 2)
    assert importing(monkeypatch, "--hard") == 0
    check.run()
    foreign.run("theirs")
    files = "--oof", "o.csv", "--test", "t.csv"
    assert run(monkeypatch, "export-member", "theirs", *files) == 0
    assert list(pd.read_csv("o.csv").columns) == ["id", "fold", "label"]
    assert run(monkeypatch, "import-member", "back", "--hard", *files) == 0
    np.testing.assert_array_equal(imported("back").oof, imported().oof)


def cell(row: int, column: str, value: object):
    def change(table):
        table = table.astype(object)
        table.loc[row, column] = value
        return table
    return change


def labels(*values: str):
    """Votes: the labels repeated down the table."""
    return lambda table: table.drop(columns=CLASSES).assign(label=np.resize(values, len(table)))


BAD_TABLES = {     # fault -> what happens to the out-of-fold table, options, what is said of it
    "missing id": (lambda t: t.drop(index=0), (), "1 of 12 ids are missing: 'f3'; fix: predict every row"),
    "foreign id": (lambda t: pd.concat([t, t.iloc[[0]].assign(id="f33")]), (), "1 ids are not among the 12 expected"),
    "duplicated id": (lambda t: pd.concat([t, t.iloc[[0]].assign(id="f3")]), (), "1 duplicated ids: 'f3'; fix: one"),
    "no rows": (lambda t: t.iloc[:0], (), "12 of 12 ids are missing"),
    "NaN": (cell(3, "cat", float("nan")), (), "1 rows hold something else than finite numbers, first id 'images/f0"),
    "infinite": (cell(3, "cat", "inf"), (), "1 rows hold something else than finite numbers"),
    "text": (cell(3, "dog", "high"), (), "1 rows hold something else than finite numbers, first id 'images/f0.png': "
                                         "'high' in class 'dog'; fix: a probability in every cell"),
    "negative": (cell(3, "dog", -0.1), (), "1 rows with negative values, first id 'images/f0.png'; fix: export prob"),
    "row sum": (lambda t: t.assign(cat=1, dog=0.5, frog=0), (), "12 rows do not sum to one within 0.001, first id "
                "'images/f3.png': 1.5; fix: --normalise divides each row by its sum"),
    "zero row": (lambda t: t.assign(cat=0, dog=0, frog=0), ("--normalise",), "12 rows do not sum to one within 0.001"),
    "missing class": (lambda t: t.drop(columns="dog"), (), "1 of 3 class columns are missing: 'dog'; fix: add them"),
    "unknown column": (lambda t: t.assign(target=0), (), "1 columns are no classes: 'target'"),
    "another fold": (cell(0, "fold", 7), (), "1 rows are in another fold, first id 'images/f3.png': '7', but folds/"),
    "another fold, stated otherwise": (cell(0, "fold", 7), ("--same-folds",), "1 rows are in another fold"),
    "no number for a fold": (cell(0, "fold", "two"), (), "1 rows are in another fold, first id 'images/f3.png': 'two'"),
    "no fold": (lambda t: t.drop(columns="fold"), (), "no column fold, so nothing says that each row was predicted wi"),
    "probabilities as votes": (lambda t: t, ("--hard",), "--hard takes the columns id and label (and fold, out of "),
    "unknown label": (labels("cat", "dgo"), ("--hard",), "1 labels are no classes: 'dgo', first at id 'images/f2.png'"
                      "; did you mean 'dog'?; fix: spell them so, or name them with --map"),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_a_bad_table(project, capsys, monkeypatch, fault):
    change, options, said = BAD_TABLES[fault]
    tables(change, labels("cat") if "--hard" in options else lambda t: t)
    refused(project, capsys, monkeypatch, *options, says=f"their.oof.csv: {said}")


def test_test_rows_are_held_to_the_same(project, capsys, monkeypatch):
    tables(change_test=lambda t: t.drop(index=2))
    refused(project, capsys, monkeypatch, says="their.test.csv: 1 of 5 ids are missing: 't2'; fix: predict every row")


BAD_FILES = {    # fault -> the file, its bytes (None: no file), options, what is said
    "missing file": ("their.test.csv", None, (), "their.test.csv is missing"),
    "empty file": ("their.oof.csv", b"", (), "their.oof.csv is not a readable CSV table"),
    "not text": ("their.oof.csv", b"\xff\xfe\x00\x80", (), "their.oof.csv is not a readable CSV table"),
    "map without its columns": ("map.csv", b"a,b\n0,cat\n", ("--map", "map.csv"), "map.csv: expected the two columns"),
    "map to an unknown class": ("map.csv", b"theirs,ours\n0,catt\n", ("--map", "map.csv"), "map.csv: 1 names under ours"
                                " are no classes of data/packed: 'catt'; did you mean 'cat'?"),
    "map of two classes to one": ("map.csv", b"theirs,ours\n0,cat\n1,cat\n", ("--map", "map.csv"),
                                  "map.csv: 1 names twice under ours: 'cat'; fix: one row per class"),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file(project, capsys, monkeypatch, fault):
    file, data, options, said = BAD_FILES[fault]
    Path(file).unlink(missing_ok=True)
    if data is not None:
        Path(file).write_bytes(data)
    refused(project, capsys, monkeypatch, *options, says=said)


@pytest.mark.parametrize(("name", "said"), [
    ("lenet", "params.yaml: foreign.lenet: models: or students: has an entry of this name too; fix: rename one"),
    ("lenet.svm", "params.yaml: foreign.lenet.svm: a name is made of letters, digits, '_' and '-'"),
    ("../up", "params.yaml: foreign.../up: a name is made of letters, digits, '_' and '-'"),
    ("size", "params.yaml: foreign.size: 'size' is a name that DVC's run-cache ignores; fix: another name"),
])
def test_a_bad_name(project, capsys, monkeypatch, name, said):
    refused(project, capsys, monkeypatch, name=name, says=said)


def test_votes_are_not_normalised(project, capsys, monkeypatch):
    refused(project, capsys, monkeypatch, "--hard", "--normalise", says="--hard with --normalise: a vote has nothing")


def test_no_parquet(project, capsys, monkeypatch):
    Path("o.parquet").write_bytes(b"not parquet")
    assert run(monkeypatch, "import-member", "theirs", "--oof", "o.parquet", "--test", "their.test.csv") == 2
    assert capsys.readouterr().err.startswith("error: o.parquet is not a readable parquet table (")
    assert not Path("foreign").exists()


def test_all_faults_of_both_files_are_said_at_once(project, capsys, monkeypatch):
    tables(lambda t: cell(0, "fold", 7)(t.drop(index=3).drop(columns="dog")), lambda t: t.assign(cat=2))
    assert importing(monkeypatch) == 2
    lines = capsys.readouterr().err.splitlines()
    begins = ["their.oof.csv: 1 of 12 ids are missing", "their.oof.csv: 1 rows are in another fold",
              "their.oof.csv: 1 of 3 class columns are missing", "their.test.csv: 5 rows do not sum to one"]
    assert [line[: len(f"error: {begin}")] for line, begin in zip(lines, begins, strict=True)] == [
        f"error: {begin}" for begin in begins]


@pytest.mark.parametrize(("name", "oof", "test", "said"), [
    ("nett", "o.csv", "t.csv", "no member 'nett'; allowed: 'net', 'blends/mean'; did you mean 'net'?"),
    ("blends/men", "o.csv", "t.csv", "did you mean 'blends/mean'?"),
    ("net", "o.txt", "t.csv", "o.txt: unknown suffix '.txt'; allowed: '.csv', '.parquet'"),
    ("net", "o.csv", "./o.csv", "--oof and --test both name o.csv; fix: two files"),
])
def test_exports_that_are_refused(project, capsys, monkeypatch, name, oof, test, said):
    roster = load_competition().roster
    uniform = Member("net", np.full((12, 3), 1 / 3, np.float32), np.full((5, 3), 1 / 3, np.float32))
    for directory in ("oof/net", "blends/mean"):
        write_member(Path(directory), uniform, roster)
    before = everything(project)
    assert run(monkeypatch, "export-member", name, "--oof", oof, "--test", test) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert said in err
    assert everything(project) == before


def joins(monkeypatch) -> None:
    """Imports the good tables, and runs check."""
    assert importing(monkeypatch) == 0
    check.run()


def test_the_stage_hands_on_what_was_imported(project, monkeypatch):
    joins(monkeypatch)
    foreign.run("theirs")
    member = read_member(Path("oof/theirs"), load_competition().roster)
    np.testing.assert_array_equal(member.oof, imported().oof)
    np.testing.assert_array_equal(member.test, imported().test)


def edit(path: str, before: str, after: str) -> None:
    text = Path(path).read_text()
    assert before in text
    Path(path).write_text(text.replace(before, after))


def cut_again() -> None:
    edit("params.yaml", "seed: 0", "seed: 1")
    folds.run()


CHANGES = {
    "other folds": (cut_again, "foreign/theirs: made on fold digest "),
    "other rows": (lambda: shutil.copy("foreign/theirs/oof.parquet", "foreign/theirs/test.parquet"),
                   "foreign/theirs/test.parquet: not the file that was imported; fix: import it again: pipeline "),
    "no rows": (lambda: Path("foreign/theirs/oof.parquet").unlink(),
                "foreign/theirs/oof.parquet: the file is missing; fix: import it again: pipeline import-member theirs"),
    "no meta": (lambda: Path("foreign/theirs/meta.json").unlink(), "foreign/theirs/meta.json is missing; fix: import"),
    "another kind": (lambda: (edit("params.yaml", "probabilities", "votes"), check.run()),
                     "params.yaml: foreign.theirs.kind: votes, but foreign/theirs holds probabilities; fix: kind: "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_stage_refuses_what_is_no_longer_the_import(project, monkeypatch, change):
    joins(monkeypatch)
    make, said = CHANGES[change]
    make()
    with pytest.raises(UserError) as caught:
        foreign.run("theirs")
    assert str(caught.value).startswith(said)
    assert not Path("oof/theirs").exists()


def test_an_entry_without_its_folder(project):
    with Path("params.yaml").open("a") as handle:
        handle.write("foreign: {theirs: {}}\n")
    with pytest.raises(UserError, match=r"^params.yaml: foreign.theirs: there is no folder foreign/theirs; fix: pipel"):
        check.run()
    with pytest.raises(UserError, match=r"^params.yaml: foreign: no entry 'theirs'; fix: pipeline import-member th"):
        foreign.run("theirs")
    assert not Path("plan").exists()


def test_collect_lists_foreign_members_last_and_keeps_only_those_that_are_named(project, monkeypatch):
    importing(monkeypatch, name="first")
    tables(*[labels("frog")] * 2)
    importing(monkeypatch, "--hard", name="second")
    check.run()
    roster = load_competition().roster
    uniform = Member("net", np.full((12, 3), 1 / 3, np.float32), np.full((5, 3), 1 / 3, np.float32))
    for name in ("logistic", "logistic.svm", "lenet", "lenet.svm", "gone"):
        write_member(Path("oof") / name, uniform, roster)
        Path("models", name).mkdir(parents=True)
        columns = [f"{rows}_{score}" for rows in ("train", "holdout", "valid") for score in ("loss", "accuracy")]
        pd.DataFrame([[name, 0, 0] + [0.5] * 6], columns=["model", "fold", "epoch", *columns]).to_csv(
            f"models/{name}/curves.csv", index=False)
    for name in ("first", "second"):
        foreign.run(name)
    collect.run()
    manifest = json.loads(Path("reports/members.json").read_text())["members"]
    assert [(m["name"], m["kind"]) for m in manifest] == [
        ("logistic", "model"), ("logistic.svm", "stacker"), ("lenet", "model"), ("lenet.svm", "stacker"),
        ("first", "foreign"), ("second", "votes")]
    assert sorted(p.name for p in Path("oof").iterdir()) == [
        "first", "lenet", "lenet.svm", "logistic", "logistic.svm", "second"]
    assert sorted(pd.read_csv("reports/curves.csv")["model"].unique()) == ["lenet", "logistic"]
    assert Path("foreign/first").is_dir()


def refused(project, capsys, monkeypatch, *options: str, says: str, name: str = "theirs") -> None:
    """One line on stderr that begins so, exit code 2, and no byte of the project changed."""
    before = everything(project)
    capsys.readouterr()
    assert importing(monkeypatch, *options, name=name) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith(f"error: {says}"), err
    assert everything(project) == before
