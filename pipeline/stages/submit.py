"""Stage `submit`: blends/ -> submissions/<method>.csv and submissions/final.csv, refused when anything is off."""

from pipeline.artefacts import BLENDS, PACKED, PARAMS, REPORTS, SUBMISSIONS, atomic_directory, read_json
from pipeline.config.base import parse, read_params
from pipeline.config.ensemble import SubmitConfig
from pipeline.data.sample_submission import read_sample
from pipeline.data.store import SAMPLE
from pipeline.members import read_member
from pipeline.stages.competition import load_competition
from pipeline.submission import gate, submission_frame

SIGNIFICANT_DIGITS = "%.8g"


def run() -> None:
    """Writes one file per method, all of them or none; raises UserError when one does not pass the gate."""
    config = parse(SubmitConfig, read_params(PARAMS)["submit"], "submit")
    competition = load_competition()
    target = {"test_ids": competition.roster.test_ids, "classes": competition.roster.classes}
    sample = read_sample(PACKED / SAMPLE, **target) if (PACKED / SAMPLE).exists() else None
    id_column = config.id_column if sample is None else str(sample.columns[0])
    report = read_json(REPORTS / "ensemble.json")
    methods = [row["name"] for row in report["leaderboard"] if row["kind"] == "method"]
    with atomic_directory(SUBMISSIONS) as directory:
        for name in methods:
            probabilities = read_member(BLENDS / name, competition.roster).test                       # (T, C)
            frame = submission_frame(probabilities, sample=sample, id_column=id_column, clip=config.clip, **target)
            gate(frame, sample=sample, id_column=id_column, name=f"{name}.csv", **target)
            frame.to_csv(directory / f"{name}.csv", index=False, float_format=SIGNIFICANT_DIGITS)
        (directory / "final.csv").write_bytes((directory / f"{report['final']}.csv").read_bytes())
    print(f"{SUBMISSIONS / 'final.csv'}: {report['final']}, {len(target['test_ids'])} rows, "
          f"{len(target['classes'])} classes")
