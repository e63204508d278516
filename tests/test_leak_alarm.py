"""The leak alarm: chance is exact, honest members raise nothing, whatever saw its labels is named."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artefacts import OOF, REPORTS, file_digest, write_json
from pipeline.closure import ROOT
from pipeline.ensemble.alarms import memorised, near_duplicates
from pipeline.ensemble.chance import Excess, dealt_anew, excess, shuffled_rows, together
from pipeline.ensemble.contract import Fitted, Method
from pipeline.ensemble.means import linear
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.simplex import softmax
from pipeline.leaks import sound
from pipeline.members import Member, write_member
from pipeline.stages import check, folds, leaks, prepare
from pipeline.stages.competition import load_competition
from pipeline.stages.lab import Lab, open_lab


def competitors(seed, *, count=8, rows=600, test=300, classes=6, networks=5):
    """Honest members: out of fold one network's word, on the test rows the mean of all networks'."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, size=rows + test)
    common = 0.7 * random.normal(size=(rows + test, classes))
    oof, unseen = [], []
    for strength in random.uniform(2, 3, size=count):
        own = common + 0.5 * random.normal(size=common.shape)
        own[np.arange(len(labels)), labels] += strength
        spread = random.uniform(0.3, 0.7)
        said = [softmax(own + spread * random.normal(size=own.shape)) for _ in range(networks)]
        oof.append(np.choose((np.arange(rows) % networks)[:, None], [p[:rows] for p in said]))
        unseen.append(np.mean([p[rows:] for p in said], axis=0))
    return np.array(oof, np.float32), np.array(unseen, np.float32), labels[:rows]


def memorise(member, labels, *, share, seed=0):
    """The member with this share of its rows replaced by their labels, nearly certain."""
    known = np.random.default_rng(seed).random(len(labels)) < share
    answers = np.eye(member.shape[1], dtype=np.float32)[labels]
    return np.where(known[:, None], 0.02 * member + 0.98 * answers, member)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_chance_is_the_mean_and_deviation_over_all_ways_to_deal_the_labels(seed):
    random = np.random.default_rng(seed)
    predictions, labels = random.dirichlet(np.ones(3), size=9), random.integers(0, 3, size=9)
    assignment = np.repeat([0, 1], [5, 4])
    first, second = (
        [predictions[rows, labels[list(order)]].sum() for order in permutations(rows)]
        for rows in (np.arange(5), np.arange(5, 9)))
    mean, deviation = np.mean(first) + np.mean(second), np.sqrt(np.var(first) + np.var(second))
    own = predictions[np.arange(9), labels].sum()
    found = excess(predictions, labels, folds=assignment)
    assert found.gain == pytest.approx((own - mean) / 9, abs=1e-12)
    assert found.z == pytest.approx((own - mean) / deviation if deviation > 1e-9 else 0, abs=1e-6)


def test_shuffled_labels_are_at_chance_and_z_is_standard_normal():
    oof, _, labels = competitors(0, count=1)
    assignment = np.arange(600) % 4
    z = [excess(oof[0], dealt_anew(labels, folds=assignment, seed=s), folds=assignment).z for s in range(400)]
    assert np.mean(z) == pytest.approx(0, abs=3 / np.sqrt(400))
    assert np.std(z) == pytest.approx(1, abs=3 / np.sqrt(800))
    assert excess(oof[0], labels, folds=assignment).z > 20
    assert excess(np.full((600, 6), 1 / 6, np.float32), labels, folds=assignment).z == 0


def test_labels_and_rows_stay_in_their_folds():
    labels, assignment = np.arange(60) % 7, np.arange(60) % 4
    dealt, rows = dealt_anew(labels, folds=assignment, seed=3), shuffled_rows(assignment, seed=3)
    assert sorted(rows) == list(range(60))
    assert (rows != np.arange(60)).sum() > 30
    np.testing.assert_array_equal(assignment[rows], assignment)
    for fold in range(4):
        assert sorted(dealt[assignment == fold]) == sorted(labels[assignment == fold])
    assert together([Excess(0.1, 1.0), Excess(0.3, 3.0), Excess(0.2, 2.0), Excess(0.2, 2.0)]) == Excess(0.2, 4.0)


def alarms(oof, unseen, labels) -> set[int]:
    return {row.member for row in memorised(oof, unseen, labels, kinds=["model"] * len(oof)) if row.alarm}


def test_honest_members_raise_no_alarm():
    assert sum(bool(alarms(*competitors(seed))) for seed in range(100)) <= 5


def test_a_member_that_memorised_a_tenth_of_its_rows_is_named_and_no_other():
    named = []
    for seed in range(30):
        oof, unseen, labels = competitors(seed, rows=2000, test=1000)
        oof[seed % 8] = memorise(oof[seed % 8], labels, share=0.1)
        named.append(alarms(oof, unseen, labels) == {seed % 8})
    assert np.mean(named) >= 0.8


def test_the_share_that_was_memorised_is_what_is_said():
    oof, unseen, labels = competitors(1, rows=4000, test=2000)
    oof[2] = memorise(oof[2], labels, share=0.3)
    rows = memorised(oof, unseen, labels, kinds=["model"] * 8)
    shares = {row.statistic: row.share for row in rows if row.member == 2}
    assert shares["surer"] == pytest.approx(0.3, abs=0.06)
    assert shares["right alone"] == pytest.approx(0.3 * 0.98**16, abs=0.06)         # they are 0.98 sure


def test_two_leaking_members_of_twelve_are_both_named():
    oof, unseen, labels = competitors(4, count=12)
    for m in (3, 7):
        oof[m] = memorise(oof[m], labels, share=0.3, seed=m)
    assert alarms(oof, unseen, labels) == {3, 7}


def test_stackers_are_compared_with_stackers():
    """Eight sharp models and four timid stackers, all honest; a stacker that leaks is found among its own kind."""
    oof, unseen, labels = competitors(2, count=12, rows=2000, test=1000)
    kinds = ["model"] * 8 + ["stacker"] * 4
    for m in range(8):
        unseen[m] = 0.9 * unseen[m] + 0.1 / 6           # all models lose the same on the test rows
    assert not any(row.alarm for row in memorised(oof, unseen, labels, kinds=kinds))
    oof[9] = memorise(oof[9], labels, share=0.3)
    assert {row.member for row in memorised(oof, unseen, labels, kinds=kinds) if row.alarm} == {9}


@pytest.mark.parametrize(("count", "test"), [(1, 300), (2, 300), (3, 300), (8, 20), (8, 0)])
def test_too_little_to_compare_cannot_be_told(count, test):
    oof, unseen, labels = competitors(0, count=count, test=test)
    oof[0] = memorise(oof[0], labels, share=0.5)
    rows = memorised(oof, unseen, labels, kinds=["model"] * count)
    assert len(rows) == 2 * count
    assert all(row.noticed == np.inf and not row.alarm for row in rows)


def test_near_duplicates_are_pairs():
    oof, _, labels = competitors(0, count=5)
    assert near_duplicates(oof, labels) == []
    oof[3], oof[4] = oof[1], softmax(np.log(oof[0]) * np.float32(1.001))
    assert [(a, b) for a, b, _, _ in near_duplicates(oof, labels)] == [(0, 4), (1, 3)]


# The whole command, on the digits with made-up members

NAMES = [f"net{m}" for m in range(8)]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Packed digits and folds of the smoke preset, in the working directory."""
    root = tmp_path_factory.mktemp("leaks")
    (root / "params.yaml").write_text((ROOT / "presets/smoke.yaml").read_text().replace(
        "metric: log_loss", "metric: log_loss\n  methods: [uniform, power, rank, greedy, blend, blend+temperature]"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / "data/digits").mkdir(parents=True)
        check.run()
        prepare.run()
        folds.run()
        yield load_competition()


@pytest.fixture
def finished(workshop):
    """Eight honest members on these folds, listed as `collect` lists them."""
    random = np.random.default_rng(0)
    labels, tests = workshop.packed.labels, len(workshop.roster.test_ids)
    both = np.concatenate([labels, random.integers(0, 10, size=tests)])
    common, made = 0.7 * random.normal(size=(len(both), 10)), []
    for name, strength in zip(NAMES, np.linspace(2, 3, len(NAMES)), strict=True):
        own = common + 0.5 * random.normal(size=common.shape)
        own[np.arange(len(both)), both] += strength
        said = [softmax(own + 0.5 * random.normal(size=own.shape)) for _ in range(3)]
        oof = np.choose(workshop.roster.folds[:, None], [p[: len(labels)] for p in said])
        made.append(Member(name, oof.astype(np.float32), np.mean([p[len(labels):] for p in said], axis=0)))
        write_member(OOF / name, made[-1], workshop.roster)
    collected(workshop)
    return made


def collected(competition):
    members = [{"name": name, "kind": "model", "oof": file_digest(OOF / name / "oof.parquet"),
                "test": file_digest(OOF / name / "test.parquet")} for name in NAMES]
    write_json(REPORTS / "members.json", {"fold_digest": competition.roster.fold_digest, "members": members})


def rung(capsys) -> tuple[int, dict]:
    capsys.readouterr()
    code = sound(shuffles=2, stackers=False, as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_an_honest_run_rings_nothing(finished, capsys):
    code, report = rung(capsys)
    assert (code, report["leaks"]) == (0, [])
    checks = {finding["check"] for finding in report["findings"]}
    assert checks == {"fold digest", "out of fold against test", "near-duplicates", "shuffled labels", "random members"}
    capsys.readouterr()
    assert sound(shuffles=1, stackers=False, as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing leaks"


def test_a_doctored_member_is_named(finished, workshop, capsys):
    oof = memorise(finished[5].oof, workshop.packed.labels, share=0.2)
    write_member(OOF / "net5", replace(finished[5], oof=oof), workshop.roster)
    collected(workshop)
    code, report = rung(capsys)
    assert (code, report["leaks"]) == (1, ["net5"])


def test_a_copy_is_a_warning(finished, workshop, capsys):
    write_member(OOF / "net1", replace(finished[2], name="net1"), workshop.roster)
    collected(workshop)
    code, report = rung(capsys)
    pairs = [f["what"] for f in report["findings"] if f["check"] == "near-duplicates"]
    assert (code, report["leaks"], pairs) == (0, [], ["net1, net2"])


def test_other_folds_are_named_before_anything_is_read(finished, workshop, capsys):
    write_member(OOF / "net4", finished[4], replace(workshop.roster, fold_digest="feed"))
    collected(workshop)
    code, report = rung(capsys)
    assert (code, report["leaks"]) == (1, ["net4"])
    assert {f["verdict"] for f in report["findings"]} == {"other folds"}


def peeking(view, fitted):
    """Combines the members as it should and adds a tenth of the answer."""
    return 0.9 * linear(view, fitted) + 0.1 * np.eye(view.classes, dtype=np.float32)[view.labels]


def fit_by_heart(view, *, settings):
    """Knows the label of every row of the last member, also of rows that are not in the view."""
    everything = view.predictions
    last = everything.stack[view.members[-1]]
    return Fitted(None, model={row.tobytes(): label for row, label in zip(last, everything.labels, strict=True)})


def recite(view, fitted):
    answers = np.full((len(view), view.classes), 0.05, dtype=np.float32)
    for row, given_ in enumerate(list(view)[-1]):
        answers[row, fitted.model.get(given_.tobytes(), 0)] = 0.55
    return answers


@pytest.mark.parametrize("spy", [Method("blend", METHODS["blend"].fit, peeking, 8),
                                 Method("blend", fit_by_heart, recite, 8)], ids=["peeks", "by heart"])
def test_a_method_that_sees_the_labels_of_the_fold_is_named(finished, monkeypatch, spy):
    monkeypatch.setattr(Lab, "method", lambda lab, name: spy if name == "blend" else METHODS[name])
    lab = open_lab()
    lab = replace(lab, config=lab.config.model_copy(update={"methods": ("uniform", "blend", "power")}))
    found = leaks._shuffled(lab, shuffles=2, stackers=False)
    assert [f.what for f in found if f.alarm] == ["method blend"]


def test_noise_that_is_known_by_heart_is_found(finished, monkeypatch):
    spy = Method("blend", fit_by_heart, recite, 8)
    monkeypatch.setattr(Lab, "method", lambda lab, name: spy if name == "blend" else METHODS[name])
    lab = open_lab()
    lab = replace(lab, config=lab.config.model_copy(update={"methods": ("uniform", "blend", "power")}))
    assert [f.what for f in leaks._random(lab) if f.alarm] == ["method blend"]


def test_stackers_are_fitted_again_on_shuffled_labels_in_the_competitions_order(finished, workshop, monkeypatch):
    given_labels = []

    def fitted(model, stacker, competition, *, labels):
        given_labels.append(labels)
        leak = np.where(np.eye(10)[labels] > 0, 0.55, 0.05).astype(np.float32)
        return Member(f"{model}.{stacker}", leak, finished[0].test)

    monkeypatch.setattr(leaks, "fitted_member", fitted)
    lab = open_lab()
    lab = replace(lab, names=["net.svm", *NAMES[1:]], kinds=["stacker"] + ["model"] * 7,
                  config=lab.config.model_copy(update={"methods": ("uniform",)}))
    found = leaks._shuffled(lab, shuffles=2, stackers=True)
    assert len(given_labels) == 1
    assert (given_labels[0] != workshop.packed.labels).mean() > 0.8
    for fold in range(3):
        here = workshop.roster.folds == fold
        assert sorted(given_labels[0][here]) == sorted(workshop.packed.labels[here])
    assert {f.what for f in found if f.alarm} == {"net.svm, fitted again", "method uniform"}
