"""The leak alarm: whatever stands above the networks, on labels that mean nothing, with members that know nothing.

What is checked, and by which law, is said in `run`; what shuffled labels cannot show is a member that saw its rows:
its predictions were made before the shuffle. `ensemble.alarms.memorised` looks for those.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import norm

from pipeline.artefacts import FOREIGN, OOF, REPORTS, read_json
from pipeline.ensemble.alarms import memorised, near_duplicates
from pipeline.ensemble.chance import Excess, dealt_anew, excess, shuffled_rows, together
from pipeline.ensemble.contract import Fitted, Method, Predictions, View
from pipeline.ensemble.nested import nested_predictions
from pipeline.ensemble.simplex import normalised
from pipeline.metrics import row_log_loss
from pipeline.rng import derive, generator
from pipeline.stages.competition import load_competition
from pipeline.stages.lab import Lab, open_lab
from pipeline.stages.stack import fitted_member

LEVEL = 0.01            # of a false alarm in each check, among all that it tests
COSTLY = 9.0            # simplicity from which on a method is fitted to one shuffle only: minutes each at full size
NOISE_MEMBERS = 2       # and as many permuted copies of real ones
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    what: str
    statistic: str
    verdict: str
    alarm: bool = False
    value: float | None = None
    z: float | None = None


def run(*, shuffles: int, stackers: bool) -> list[Finding]:
    """Every check of the finished run in the working directory; raises UserError, as `open_lab` does.

    1. Members whose files carry another fold digest; nothing else can be said while there are any.
    2. Labels shuffled within folds: members as they are, stackers fitted again on their features (once), methods
       nested. The mean probability of the true class is at chance when `excess.z` stays below the limit.
    3. Random members with the true labels: alone at chance. Beside the real ones, a method that learns may use them as
       it likes, but on the fold that is scored they must be worth no more than with their rows moved after the fit.
    4. Members whose out-of-fold rows look memorised. 5. Near-duplicates. Both are of members that are not votes.
    """
    digests, bad = _digests()
    if bad:
        return digests
    lab = open_lab()
    found = [*digests, *_memorised(lab), *_duplicates(lab)]
    found += _shuffled(lab, shuffles=shuffles, stackers=stackers)
    return found + _random(lab)


def _digests() -> tuple[list[Finding], bool]:
    """A line where every member agrees; else one per member that does not, or whose folds were only stated."""
    roster, check = load_competition().roster, "fold digest"
    found = []
    entries: list[dict[str, Any]] = read_json(REPORTS / "members.json")["members"]
    for entry in entries:
        for part in ("oof", "test"):
            path = OOF / entry["name"] / f"{part}.parquet"
            own = (pq.read_schema(path).metadata or {}).get(b"fold_digest", b"none").decode()
            if own != roster.fold_digest:
                found.append(Finding(check, entry["name"], f"{path}: {own}, folds/folds.csv: {roster.fold_digest}",
                                     "other folds", alarm=True))
    bad = bool(found)
    for entry in entries:
        meta = FOREIGN / entry["name"] / "meta.json"
        if entry["kind"] in ("foreign", "votes") and meta.exists() and read_json(meta)["folds"] == "stated":
            found.append(Finding(check, entry["name"], f"{meta}: imported with --same-folds", "stated, not compared"))
    return found or [Finding(check, f"{len(entries)} members", roster.fold_digest, "the same")], bad


def _memorised(lab: Lab) -> list[Finding]:
    """One line per member that something can be told of, and one for all others."""
    check, places = "out of fold against test", _probabilistic(lab)
    rows = memorised(lab.oof.stack[places], lab.test.stack[places], lab.sample.labels,
                     kinds=[lab.kinds[m] for m in places], level=LEVEL, seed=derive(lab.settings.seed, "leaks"))
    found, untold = [], []
    for place, m in enumerate(places):
        own = [row for row in rows if row.member == place and np.isfinite(row.noticed)]
        if not own:
            untold.append(lab.names[m])
            continue
        said = ", ".join(f"{row.statistic} {row.share:+.1%} (alarm above {row.noticed:.1%})" for row in own)
        alarm = any(row.alarm for row in own)
        found.append(Finding(check, lab.names[m], f"as if this share of its rows were memorised: {said}",
                             "memorised" if alarm else "like its fold-mates", alarm, max(row.share for row in own)))
    if untold:
        found.append(Finding(check, ", ".join(untold), f"{len(places)} members, {lab.test.stack.shape[1]} test rows: "
                             "too few, or too unlike each other", CANNOT_TELL))
    return found


def _duplicates(lab: Lab) -> list[Finding]:
    places = _probabilistic(lab)
    pairs = near_duplicates(lab.oof.stack[places], lab.sample.labels)
    return [Finding("near-duplicates", f"{lab.names[places[a]]}, {lab.names[places[b]]}",
                    f"same top class on {same:.2%} of the rows, correlation of errors {correlation:.4f}",
                    "one is enough", value=correlation)
            for a, b, same, correlation in pairs] or [Finding("near-duplicates", f"{len(places)} members", "", "none")]


def _shuffled(lab: Lab, *, shuffles: int, stackers: bool) -> list[Finding]:
    """Members, stackers and methods on labels that were dealt anew within the folds."""
    check, found = "shuffled labels", dict[str, list[Excess]]()
    for number in range(shuffles):
        labels = dealt_anew(lab.sample.labels, folds=lab.folds, seed=derive(lab.settings.seed, "shuffle", number))
        oof = replace(lab.oof, labels=labels, memory={})
        for name, member in zip(lab.names, lab.oof.stack, strict=True):
            found.setdefault(name, []).append(excess(member, labels, folds=lab.folds))
        if number == 0 and stackers and "stacker" in lab.kinds:
            oof = replace(oof, stack=lab.oof.stack.copy())
            for m in [m for m, kind in enumerate(lab.kinds) if kind == "stacker"]:
                oof.stack[m] = _refitted(lab, m, labels)
                found[f"{lab.names[m]}, fitted again"] = [excess(oof.stack[m], labels, folds=lab.folds)]
        for name in lab.config.methods:
            if number == 0 or lab.method(name).simplicity < COSTLY:
                nested = _nested(lab, lab.method(name), name, oof)
                found.setdefault(f"method {name}", []).append(excess(nested, labels, folds=lab.folds))
        print(f"  {check}: {number + 1} of {shuffles}", flush=True)
    return _against_chance(check, {name: (together(parts), len(parts)) for name, parts in found.items()})


def _refitted(lab: Lab, place: int, labels: np.ndarray) -> np.ndarray:
    """A stacker's out-of-fold predictions `(N, C)` when its features came with these labels."""
    model, _, stacker = lab.names[place].partition(".")
    print(f"  {lab.names[place]}: fitting again", flush=True)
    member = fitted_member(model, stacker, lab.competition, labels=lab.in_order(labels))
    return normalised(member.oof[lab.order])


def _random(lab: Lab) -> list[Finding]:
    """Members that know nothing of any row: noise, and copies of real members with the rows permuted within folds."""
    check, seed = "random members", derive(lab.settings.seed, "random members")
    _, rows, classes = lab.oof.stack.shape
    names, extra = [], []
    for number in range(NOISE_MEMBERS):
        names.append(f"noise {number + 1}")
        extra.append(generator(seed, "noise", number).dirichlet(np.ones(classes), size=rows).astype(np.float32))
    for m in lab.members("uniform")[:NOISE_MEMBERS]:
        names.append(f"{lab.names[m]}, rows permuted")
        extra.append(lab.oof.stack[m][shuffled_rows(lab.folds, seed=derive(seed, "copy", m))])
    found = _against_chance(check, {name: (excess(member, lab.sample.labels, folds=lab.folds), 0)
                                    for name, member in zip(names, extra, strict=True)})
    learners = [name for name in lab.config.methods if lab.method(name).learns]
    stack = np.concatenate([lab.oof.stack, np.stack(extra)])
    oof = Predictions(stack, lab.sample.labels, lab.oof.threads)
    moved = stack.copy()
    moved[-len(extra):] = stack[-len(extra):, shuffled_rows(lab.folds, seed=derive(seed, "moved"))]
    limit = norm.isf(LEVEL / max(len(learners), 1))
    for name in learners:
        losses, without = _losses(lab, name, oof, Predictions(moved, lab.sample.labels, lab.oof.threads), len(extra))
        gain, z = _paired(without - losses, lab.competition.clusters[lab.order])
        found.append(Finding(check, f"method {name}", f"log loss {-gain:+.5f} against their rows moved after the fit, "
                             f"z {z:+.1f} (alarm above {limit:.1f})",
                             "gains by noise" if z > limit else "gains nothing", bool(z > limit), gain, z))
        print(f"  {check}: {name}", flush=True)
    return found


def _losses(lab: Lab, name: str, oof: Predictions, moved: Predictions, added: int) -> tuple[np.ndarray, np.ndarray]:
    """A method's nested log losses `(N,)` with the last `added` members of `oof`, and of the same fits on `moved`."""
    method, parts = lab.method(name), []

    def on_both(view: View, fitted: Fitted) -> np.ndarray:
        parts.append(method.combine(View(moved, view.members, view.rows), fitted))
        return method.combine(view, fitted)

    nested = _nested(lab, replace(method, combine=on_both), name, oof, added=added)
    labels = lab.sample.labels
    return row_log_loss(nested, labels), row_log_loss(np.concatenate(parts), labels)   # fold by fold, like the rows


def _nested(lab: Lab, method: Method, name: str, oof: Predictions, *, added: int = 0) -> np.ndarray:
    """A method's nested predictions `(N, C)` from the members that `name` combines, and the last `added`."""
    places = np.concatenate([lab.members(name), np.arange(len(oof.stack) - added, len(oof.stack))])
    return nested_predictions(method, View(oof, places, oof.all().rows), folds=lab.folds, settings=lab.settings)


def _against_chance(check: str, found: dict[str, tuple[Excess, int]]) -> list[Finding]:
    limit, findings = norm.isf(LEVEL / len(found)), []
    for name, (e, count) in found.items():
        shuffled = f", {count} shuffle{'s' * (count > 1)}" * bool(count)
        said = f"p(true) {e.gain:+.5f} over chance, z {e.z:+.1f} (alarm above {limit:.1f}){shuffled}"
        verdict = "leaks" if e.z > limit else "at chance"
        findings.append(Finding(check, name, said, verdict, bool(e.z > limit), e.gain, e.z))
    return findings


def _paired(gains: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Mean of the rows' gains `(N,)` and its z; rows of one cluster `(N,)` count as one."""
    mean = float(gains.mean())
    error = np.sqrt((np.bincount(clusters, weights=gains - mean) ** 2).sum()) / len(gains)
    return mean, float(mean / error) if error > 0 else 0.0


def _probabilistic(lab: Lab) -> np.ndarray:
    return np.array([m for m, kind in enumerate(lab.kinds) if kind != "votes"], dtype=np.int64)
