"""Where artefacts live, their digests, and writing them so that nothing is ever half-written.

All paths are relative to the repository root, which is the working directory of every stage.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARAMS = Path("params.yaml")
PLAN = Path("plan")                      # what `check` resolved: code and options of each net and stacker
PACKED = Path("data/packed")             # pixels.bin, images.parquet, meta.json
FOLDS = Path("folds/folds.csv")
FOLDS_REPORT = Path("folds/report.json")
PRETRAINED = Path("pretrained")          # weights files that users bring
MODELS = Path("models")                  # <model>/<network>.safetensors, curves.csv
FEATURES = Path("features")              # <model>/<network>.train.npy, <network>.test.npy, networks.json
TEACHERS = Path("teachers")              # <model>/fold<cell>.npy: what the cell's networks say of the test rows
PSEUDO = Path("pseudo")                  # <student>/fold<cell>.npy: targets, the mean over its teachers
FOREIGN = Path("foreign")                # <member>/oof.parquet, test.parquet, meta.json: imported, a user's input
OOF = Path("oof")                        # <member>/oof.parquet, test.parquet
BLENDS = Path("blends")                  # <method>/oof.parquet, test.parquet
REPORTS = Path("reports")
SUBMISSIONS = Path("submissions")
SCRATCH = Path(".scratch")               # work in progress, keyed by fingerprints; never an artefact


def network_name(cell: int, replica: int, snapshot: int = 0) -> str:
    """The stem of a network's files: `fold3`; `fold3.replica1`, the second; `fold3.snapshot2`, two cycles earlier."""
    return f"fold{cell}" + (f".replica{replica}" if replica else "") + (f".snapshot{snapshot}" if snapshot else "")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renames it to `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields an empty temporary directory that replaces `path` whole when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON with a final newline, atomically; NaN is refused (ValueError)."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file; raises FileNotFoundError and json.JSONDecodeError."""
    return json.loads(path.read_text())


def digest(*parts: str | bytes) -> str:
    """SHA-256 of the parts, 16 hexadecimal digits; parts are length-prefixed, so no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 16 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
