"""What a GPU makes of ten nets at 96 px: images per second, share of its matrix peak, folds side by side, minutes.

    python benchmarks/gpu.py [--data DIR] [--nets resnet18,deepsea] [--tiny]

DIR holds the bowl's train.zip; without it the images are noise of the same sizes in as many classes. --tiny walks the
same path within a minute on a CPU. Writes benchmarks/results/gpu.json, or gpu-tiny.json, after each part: a run that is
killed leaves the parts that it finished.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pandas as pd
import torch
from fold_run import fold_job, ndsb_data, ndsb_model, pack_once, working_directory
from gpu_rates import Row, bare_step, device_facts, feed_rates, matrix_peak, prediction_rate, profiled
from report import summary, write
from synthetic import pack_arrays

from pipeline.cells import Cell
from pipeline.config.model import ModelConfig
from pipeline.data.store import open_packed
from pipeline.nets.cost import cost
from pipeline.training.executors import device_for, run_jobs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob

CLASSES, SIDES, FOLDS, EPOCHS, ROWS, VIEWS = 121, (30, 130), 5, 30, 30_336, 16      # of the bowl; of the target
TRAINING = 3            # times the FLOPs of a forward pass: backward costs one for the inputs and one for the weights
GROWTH = 1.03           # what twice as many networks side by side must gain to go on
NETS: dict[str, Row] = {
    "deepsea": {"net": "deepsea"},
    "deepsea_cyclic": {"net": "deepsea", "options": {"cyclic": 4}},
    "vgg16": {"net": "vgg16"},
    "resnet18": {"net": "resnet18"},
    "resnet50": {"net": "resnet50"},
    "resnet56": {"net": "resnet56"},
    "inception_v3": {"net": "inception_v3"},
    "densenet121": {"net": "densenet121"},
    "efficientnet_v2_s": {"net": "efficientnet_v2_s"},
    "alexnet": {"net": "alexnet"},
}
TINY_NETS: dict[str, Row] = {
    "deepsea": {"net": "deepsea", "options": {"width": 4, "dense": 16}},
    "lenet5": {"net": "lenet5"},
}


@dataclass(frozen=True)
class Scale:
    """How large the measurement is."""

    nets: dict[str, Row]
    canvas: int
    batch: int
    rows: int               # images: four fifths are trained on
    epochs: int             # of a measured training; the first is a warm-up
    steps: int              # of a bare measurement
    repeats: int            # in turns: bare step, training, prediction
    matrix: int             # side of the square product
    slots: tuple[int, ...]  # networks side by side
    abreast: tuple[str, ...]    # nets that are trained side by side


FULL = Scale(NETS, 96, 256, 10_240, 3, 30, 3, 8192, (1, 2, 4, 8, 16), ("deepsea", "resnet18", "resnet50"))
TINY = Scale(TINY_NETS, 32, 32, 320, 2, 2, 2, 256, (1, 2), ("lenet5",))


def main() -> None:
    options = arguments()
    scale, device = TINY if options.tiny else FULL, device_for(0)
    names = options.nets.split(",") if options.nets else list(scale.nets)
    if unknown := set(names) - set(scale.nets):
        raise SystemExit(f"--nets: {', '.join(sorted(unknown))}: not among {', '.join(scale.nets)}")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with working_directory(options.work) as work:
        noise = work / f"noise {scale.rows}"
        packed = pack_once(ndsb_data(options.data), work / "ndsb") if options.data else noise_store(noise, scale.rows)
        jobs = {name: job_of(name, scale, packed=packed, work=work) for name in names}
        first = next(iter(jobs.values()))
        peak = matrix_peak(scale.matrix, device=device)
        result: Row = {
            "device": device_facts(device), "precision": first.precision, "canvas": scale.canvas, "batch": scale.batch,
            "fitted_rows": len(first.fit_rows), "data": "NDSB" if options.data else "noise",
            "peak_tflops": round(peak / 1e12, 2), "feed": feed_rates(first, repeats=scale.repeats), "nets": {},
        }
        file = "gpu-tiny" if options.tiny or device == "cpu" else "gpu"
        for name, job in jobs.items():
            result["nets"][name] = measured(job, scale, peak=peak, work=work)
            print(name, result["nets"][name], flush=True)
        write(file, result)
        result["side_by_side"] = {name: side_by_side(jobs[name], scale, work=work)
                                  for name in scale.abreast if name in jobs}
        result["projection"] = projected(result)
        write(file, result)
        profile_job = moved(first, work / "profile", epochs=1)
        write(file, result | {"profile": {"net": first.model, **profiled(profile_job)}})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory with the bowl's train.zip; noise by default")
    parser.add_argument("--nets", help="names, separated by commas; the first is profiled; all by default")
    parser.add_argument("--work", type=Path, help="directory that keeps the packed images between runs")
    parser.add_argument("--tiny", action="store_true", help="two small nets, a few steps")
    return parser.parse_args()


def job_of(name: str, scale: Scale, *, packed: Path, work: Path) -> FoldJob:
    """A fold of the net with the settings of presets/ndsb.yaml; a fifth of its rows is held."""
    rows = np.random.default_rng(0).permutation(open_packed(packed).n_train)[:scale.rows]
    held = len(rows) // FOLDS
    entry = {**scale.nets[name], "canvas": scale.canvas, "batch": scale.batch, "epochs": scale.epochs,
             "tta": {"kind": "affine", "views": VIEWS}}
    return fold_job(name, ndsb_model(name, entry), packed=packed, work=work,
                    cell=Cell(0, 0, 0, np.sort(rows[held:]), np.sort(rows[:held])))


def moved(job: FoldJob, scratch: Path, *, epochs: int) -> FoldJob:
    """The job, to be trained anew in another place."""
    config: ModelConfig = job.config.model_copy(update={"epochs": epochs})
    return replace(job, config=config, scratch=scratch / job.model)


def measured(job: FoldJob, scale: Scale, *, peak: float, work: Path) -> Row:
    """Images per second of the bare step, of training and of predicted views, in turns within this process."""
    store, config = open_packed(job.packed), job.config
    parameters, flops = cost(config.net, options=config.options, n_classes=len(job.classes), channels=store.channels,
                             canvas=config.canvas)
    step, rates, beside = bare_step(job, steps=scale.steps), [], []
    for repeat in range(scale.repeats):
        trained = moved(job, work / f"repeat {repeat}", epochs=scale.epochs)
        started = perf_counter()
        train_fold(trained)
        beside.append(perf_counter() - started - timing(trained)["seconds"].sum())
        rates.append((step(), loop_rate(trained), prediction_rate(trained, views=VIEWS)))
    bare, loop, prediction = (summary(list(column)) for column in zip(*rates, strict=True))
    return {
        "parameters": parameters, "forward_flops": flops, "bare_step": bare, "training": loop,
        "predicted_views": prediction, "training_of_bare": round(loop["median"] / bare["median"], 3),
        "share_of_peak": {way: round(TRAINING * flops * row["median"] / peak, 4)
                          for way, row in {"bare_step": bare, "training": loop}.items()},
        "seconds_beside_epochs": round(float(np.median(beside)), 2),
    }


def side_by_side(job: FoldJob, scale: Scale, *, work: Path) -> dict[int, Row]:
    """Images per second of all the networks that are trained at a time, until more of them gain nothing.

    "images_per_second" adds up the networks' median epochs; "with_all" is of the wall clock, with whatever lies
    between and beside the epochs. Their processes are warm: each has trained an epoch.
    """
    found: dict[int, Row] = {}
    for slots in scale.slots:
        places = [work / f"{slots} abreast" / str(i) for i in range(slots)]
        warm = max(2, slots)        # run_jobs keeps two processes for one slot
        run_jobs(train_fold, [moved(job, work / f"{slots} warm" / str(i), epochs=1) for i in range(warm)], slots=warm)
        jobs = [moved(job, place, epochs=scale.epochs) for place in places]
        started = perf_counter()
        run_jobs(train_fold, jobs, slots=slots)
        seconds = perf_counter() - started
        images = slots * scale.epochs * len(job.fit_rows)
        best = max((row["images_per_second"] for row in found.values()), default=0.0)
        total = sum(map(loop_rate, jobs))
        found[slots] = {"images_per_second": round(total, 1), "with_all": round(images / seconds, 1)}
        print(job.model, slots, found[slots], flush=True)
        if total < GROWTH * best:
            break
    return found


def projected(result: Row) -> Row:
    """Minutes of ten nets x five folds x 30 epochs, and of 16 views of 30,336 rows, at the measured rates.

    Side by side a net gains what it was measured to, or else the least that any net was; what a fold takes beside its
    epochs is not shared.
    """
    gains = {name: max(row["images_per_second"] for row in rows.values()) / rows[1]["images_per_second"]
             for name, rows in result["side_by_side"].items()}
    minutes = {}
    for name, row in result["nets"].items():
        gain = gains.get(name, min(gains.values(), default=1.0))
        training = EPOCHS * ROWS * (FOLDS - 1) / row["training"]["median"] / gain
        prediction = VIEWS * ROWS / row["predicted_views"]["median"] / gain
        beside = FOLDS * row["seconds_beside_epochs"]
        minutes[name] = {"training": round(training / 60, 2), "prediction": round(prediction / 60, 2),
                         "beside": round(beside / 60, 2), "gain_side_by_side": round(gain, 3)}
    total = sum(sum(row[part] for part in ("training", "prediction", "beside")) for row in minutes.values())
    return {"folds": FOLDS, "epochs": EPOCHS, "rows": ROWS, "views": VIEWS, "minutes": minutes,
            "minutes_in_all": round(total, 1)}


def timing(job: FoldJob) -> pd.DataFrame:
    """One row per epoch of a trained job."""
    return pd.read_csv(job.scratch / "timing.csv")


def loop_rate(job: FoldJob) -> float:
    """Images per second of a trained job: the median of its epochs but the first."""
    return float(timing(job)["images_per_second"].iloc[1:].median())


def noise_store(directory: Path, rows: int) -> Path:
    """Noise of the bowl's sizes and number of classes, packed."""
    random = np.random.default_rng(0)
    shapes = random.integers(*SIDES, size=(rows, 2))
    images = [random.integers(0, 256, (*shape, 1), np.uint8) for shape in shapes]
    return pack_arrays(directory, images, np.arange(rows) % CLASSES)


if __name__ == "__main__":
    main()
