"""`vision-tasks doctor`: what is wrong with a data set, what that does, and a patch that mends it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.cli.console import console, say
from vision_tasks.cli.doctor_words import lines_of, to_dict
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.config import Config, Split
    from vision_tasks.data.doctor.findings import Diagnosis
    from vision_tasks.data.doctor.mending import Mending
    from vision_tasks.data.doctor.network import Network
    from vision_tasks.data.patch import SplitPatch
    from vision_tasks.data.records import Records


@dataclass
class _Case:
    """What is to be examined: records by split, patches that were applied, the model's network, words for commands.

    `lists`: the splits that are lists in the recipe. `read`: what was read, in words.
    """

    splits: dict[str, Records]
    train: str
    before: dict[str, SplitPatch] = field(default_factory=dict)
    network: Network | None = None
    lists: tuple[str, ...] = ()
    read: tuple[str, ...] = ()


def run(
    data: Path, options: list[str], images: Path | None, fix: Path | None, report: Path | None, as_json: bool,
    quick: bool,
) -> int:  # fmt: skip
    """Examine, say what was found, write what was asked for.

    Returns:
        1 if something would break training, else 0.
    """
    from vision_tasks.data.doctor.diagnose import diagnose
    from vision_tasks.data.doctor.mending import mend

    _check_files(images, fix, report)
    with work_bar(console()):
        case = (
            _recipe_case(data, options)
            if data.suffix in (".yaml", ".yml") and data.is_file() and _is_recipe(data)
            else _data_case(data, options, images)
        )
        diagnosis = diagnose(case.splits, quick=quick, network=case.network)
        mending = mend(case.splits, diagnosis, case.network) if fix is not None or report is not None else None
        if report is not None:
            _write_page(report, data, case, diagnosis, mending)
    # A patch that changes nothing is not written.
    written = fix if mending is not None and (any(mending.edits.values()) or case.before) else None
    if written is not None and mending is not None:
        _write_fix(written, case, mending)
    if as_json:
        say(json.dumps(to_dict(diagnosis) | {"patch": _path(written), "report": _path(report)}, ensure_ascii=False))
    else:
        for line in case.read:
            say(line)
        for line in lines_of(diagnosis, mending.codes if fix is not None and mending is not None else None):
            say(line, colored=True)
        again = ["vision-tasks", "doctor", str(data), *options, *(["--images", str(images)] if images else [])]
        if report is not None:
            say(f"Page: {report}")
        if fix is not None and written is None:
            say("Patch: none is written, as there is nothing that one could mend.")
        _say_next(case, shlex.join(again), diagnosis, mending, written, report)
    return int(diagnosis.breaks)


def _check_files(images: Path | None, fix: Path | None, report: Path | None) -> None:
    """Refuse, before an hour of work, what could not be written after it."""
    from vision_tasks.data.patch import is_patch

    if images is not None and not images.is_dir():
        raise VisionTasksError(f"{images}: there is no such folder of images.")
    if fix is not None and fix.exists() and not is_patch(fix):
        raise VisionTasksError(f"{fix}: is there and no patch, so it is not overwritten. Choose another name.")
    if report is not None and (report.is_dir() or report.suffix.lower() not in (".html", ".htm")):
        raise VisionTasksError(f"--report {report}: name the page to write, such as doctor.html.")


def _is_recipe(path: Path) -> bool:
    """Whether a YAML file is a recipe of ours, not the data.yaml of YOLO."""
    from vision_tasks.data.yaml_files import read_yaml

    try:
        value = read_yaml(path)
    except (OSError, VisionTasksError):
        return True  # `load_config` says what is wrong with it
    return not isinstance(value, dict) or not {"names", "nc"} & set(value)


def _data_case(data: Path, options: list[str], images: Path | None) -> _Case:
    from vision_tasks.cli.doctor_source import training_words, what_is_read
    from vision_tasks.data.doctor.diagnose import found_of
    from vision_tasks.data.formats.beside import others_beside
    from vision_tasks.data.formats.registry import read_found
    from vision_tasks.data.progress import counted

    if options:
        raise VisionTasksError(f"{' '.join(options)}: options belong to a recipe (.yaml), but {data} is none.")
    found = found_of(data, images)
    splits = {name: read_found(one) for name, one in counted(found.items(), "reading", len(found))}
    read = (what_is_read(data, found), others_beside(data, found))
    return _Case(splits, training_words(data, images, found, splits), read=tuple(filter(None, read)))


def _recipe_case(recipe: Path, options: list[str]) -> _Case:
    """The splits that the recipe trains on and is judged by, as its patches leave them."""
    from vision_tasks.config import load_config
    from vision_tasks.training.network import network_for
    from vision_tasks.training.splits import splits_of

    config = load_config(recipe, options)
    kinds = _kinds(config)
    case = _Case({}, " ".join(shlex.quote(w) for w in (str(recipe), *options)))
    case.lists = tuple(name for name in ("train", "val", "test") if isinstance(getattr(config.data, name), list))
    for name in ("train", "val", "test"):
        for number, split in enumerate(splits_of(config.data, name, kinds)):
            if split.annotations is not None:
                _read(case, split, f"{name}[{number}]" if number else name)
    if not case.splits:
        raise VisionTasksError(
            f"{recipe}: names no objects that the doctor could look at. Maps alone are checked when training begins."
        )
    case.network = network_for(config, next(iter(case.splits.values())))
    return case


def _read(case: _Case, split: Split, name: str) -> None:
    from vision_tasks.data.formats.interface import Found
    from vision_tasks.data.formats.registry import read_found
    from vision_tasks.data.patch import SplitPatch, apply_edits, fitting

    assert split.annotations is not None
    records = read_found(Found(split.format or "coco", split.annotations, split.images, split.part))
    if split.patch is not None:
        patch = fitting(records, split.patch, name)
        case.before[name] = SplitPatch(patch.source, patch.fingerprint, patch.edits, patch.file)
        records = apply_edits(records, patch.edits, f"{split.patch}, split {name}, ")
    case.splits[name] = records


def _kinds(config: Config) -> tuple[Any, ...]:
    from vision_tasks.models.registry import model_kinds

    return model_kinds(config.model["name"], config.model)


def _write_page(report: Path, data: Path, case: _Case, diagnosis: Diagnosis, mending: Mending | None) -> None:
    from vision_tasks.visualize.doctor_page import write_doctor_page

    write_doctor_page(report, str(data), diagnosis, case.splits, mending.records if mending is not None else {})


def _write_fix(fix: Path, case: _Case, mending: Mending) -> None:
    from vision_tasks.data.patch import write_patch

    write_patch(fix, mending.patches(case.splits, case.before))


def _say_next(
    case: _Case, again: str, diagnosis: Diagnosis, mending: Mending | None, fix: Path | None, report: Path | None
) -> None:
    """What was mended, and what to do next; `again` is the command that was given, without what it wrote."""
    if mending is not None and fix is not None:
        for line in mending.refused:
            say(line)
        count = sum(map(len, mending.edits.values()))
        rest = len(mending.left)
        left = f"; with it, annotations still have {rest} finding{'s' * (rest != 1)}" if count and rest else ""
        say(f"Patch: {fix} ({count} edit{'s' * (count != 1)}{left})")
        keys, lists = _patch_keys(case, mending, fix)
        say("Next:")
        for name in lists:
            say(f"  in the recipe, give each entry of data.{name} that the patch is for: patch: {fix.resolve()}")
        say(f"  vision-tasks train {case.train} {keys}".rstrip())
        return
    say("Next:")
    if any(f.code == "image_missing" and f.own_remedy for f in diagnosis):
        say(f"  {again.partition(' --images ')[0]} --images DIR")
    elif diagnosis.is_clean or not any(f.edits for f in diagnosis):
        say(f"  vision-tasks train {case.train}")
    else:
        say(f"  {again} --fix patch.json")
    if report is None and not diagnosis.is_clean:
        say(f"  {again} --report doctor.html")


def _patch_keys(case: _Case, mending: Mending, fix: Path) -> tuple[str, list[str]]:
    """The options that apply the patch, and the splits that are lists in the recipe: options do not reach entries."""
    mended = [name for name in case.splits if mending.edits[name] or name in case.before]
    single = [name for name in mended if name in ("train", "val", "test") and name not in case.lists]
    keys = " ".join(f"data.{name}.patch={shlex.quote(str(fix))}" for name in single)
    return keys, [name for name in case.lists if any(m.split("[")[0] == name for m in mended)]


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
