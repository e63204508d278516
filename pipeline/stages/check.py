"""Stage `check`: params.yaml is right as a whole, before anything expensive starts.

Writes `plan/`: the names of all members, and one small file for each model, student and stacker on one of them, with
what its stages need to know beyond their own section, above all a digest of the one net's or stacker's code. A stage
that depends on its plan file reruns when that code changes and not when another family's does.
"""

from pathlib import Path

from pipeline.artefacts import FOREIGN, PARAMS, PLAN, atomic_directory, write_json
from pipeline.closure import closure_digest
from pipeline.config.model import ModelConfig
from pipeline.config.params import Params, load_params, member_names, stacked
from pipeline.config.students import teacher_names
from pipeline.errors import UserError
from pipeline.nets import registry as nets
from pipeline.stackers import registry as stackers
from pipeline.training.provenance import pretrained_digest


def run() -> None:
    """Checks params.yaml and writes the plan; raises UserError with one line per mistake."""
    params = check_params(PARAMS)
    if not Path(params.data.path).is_dir():
        raise UserError(f"{PARAMS}: data.path: there is no folder '{params.data.path}'; fix: put the competition "
                        "there, as README.md says under 'Running a competition', or correct data.path")
    absent = [name for name in params.foreign if not (FOREIGN / name).is_dir()]
    if absent:
        raise UserError("\n".join(
            f"{PARAMS}: foreign.{name}: there is no folder {FOREIGN / name}; fix: pipeline import-member {name} "
            "--oof their_oof.csv --test their_test.csv, or remove the entry" for name in absent))
    with atomic_directory(PLAN) as directory:
        write_json(directory / "data.json", params.data.model_dump(mode="json"))
        write_json(directory / "members.json", {
            "models": list(params.models), "students": list(params.students), "stackers": list(params.stackers),
            "foreign": {name: entry.kind for name, entry in params.foreign.items()},
            "members": member_names(params.networks, params.stackers, params.foreign)})
        for name, entry in params.foreign.items():
            write_json(directory / "foreign" / f"{name}.json", {"kind": entry.kind})
        for name, student in params.students.items():
            write_json(directory / "students" / f"{name}.json",
                       {"teachers": teacher_names(student, params.models), "models": sorted(params.models)})
        for name, model in params.networks.items():
            code = closure_digest(nets.module_of(model.net))
            write_json(directory / "models" / f"{name}.json", {
                "net": model.net, "builder": nets.target_of(model.net), "code": code,
                "pretrained": pretrained_digest(model)})
            for key, stacker in params.stackers.items():
                plan = {"selected": True, "config": stacker.model_dump(mode="json", exclude={"models"}),
                        "code": closure_digest(stackers.module_of(stacker.kind))}
                write_json(directory / "stack" / f"{name}-{key}.json",
                           plan if stacked(stacker, name) else {"selected": False})


def check_params(path: Path) -> Params:
    """params.yaml typed, with every net built once without memory, so that options and canvas are known to fit."""
    params = load_params(path)
    problems = []
    for name, model in params.networks.items():
        section = "students" if name in params.students else "models"
        try:
            _check_model(model, params.data.n_channels)
        except UserError as error:
            problems += [f"params.yaml: {section}.{name}: {line}" for line in str(error).splitlines()]
    if len(params.networks) * (1 + len(params.stackers)) != len(_stage_names(params)):
        problems.append("params.yaml: models: two pairs of model and stacker make the same stage name; fix: rename one")
    if problems:
        raise UserError("\n".join(problems))
    return params


def _stage_names(params: Params) -> set[str]:
    return ({f"train@{name}" for name in params.networks}
            | {f"stack@{name}-{stacker}" for name in params.networks for stacker in params.stackers})


def _check_model(model: ModelConfig, channels: int) -> None:
    """Raises UserError unless the net can be built, takes its canvas, and goes with the section's other keys."""
    import torch

    from pipeline.training.network import trunk_net
    from pipeline.training.transfer import check_pretrained, freeze_until

    nets.module_of(model.net)
    if model.colour is not None and channels == 1:
        raise UserError("colour: the images are grey (data.channels); fix: colour: null")
    with torch.device("meta"), torch.no_grad():
        net = trunk_net(model, n_classes=2, channels=channels, n_side=1).eval()
        if model.whiten == "pca" and any(isinstance(module, torch.nn.Conv2d) for module in net.modules()):
            raise UserError(f"whiten: pca leaves no image for the convolutions of '{model.net}'; fix: whiten: zca")
        images = torch.zeros(1, channels * (1 + len(model.scales)), model.canvas, model.canvas)
        try:
            net(images, torch.zeros(1, 1)) if model.handmade else net(images)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"net '{model.net}' does not take a canvas of {model.canvas} px ({reason}); "
                            "fix: a larger canvas") from None
    if model.pretrained:
        check_pretrained(net, model, channels=channels)
    if model.freeze is not None and not model.frozen:
        freeze_until(net, model.freeze.removeprefix("until:"))
