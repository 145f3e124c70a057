"""Forms that a model cannot fill are refused before anything is written; two writers never have one name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.small_results import SIZE, found, frame, lines_of
from tests.inference.test_sources import save
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.outputs.possible import _NEEDS, Gives
from vision_tasks.inference.outputs.registry import OUTPUTS, open_outputs
from vision_tasks.inference.sources.files import RESULT_FOLDERS
from vision_tasks.inference.sources.names import RESERVED
from vision_tasks.inference.sources.opening import open_sources
from vision_tasks.models.registry import create_model

DETECTOR = Gives(masks=False, tracks=False, maps=False, segments=False)
MAPS_ONLY = Gives(boxes=False, masks=False, tracks=False, segments=False)


@pytest.mark.parametrize(
    ("form", "gives", "said"),
    [
        ("masks", DETECTOR, "masks needs masks of objects or maps, and this model gives objects only.*crops, sheet"),
        ("instances", DETECTOR, "instances needs masks of objects, and this model gives objects only"),
        ("cutouts", DETECTOR, "cutouts needs masks of objects.*Choose of jsonl, coco, csv, yolo, .*mot, crops, sheet"),
        ("maps", DETECTOR, "maps needs maps"),
        ("panoptic", DETECTOR, "panoptic needs objects and maps merged"),
        ("mot", DETECTOR, "mot needs tracks.*--track bytetrack"),
        ("mot", MAPS_ONLY, "mot needs objects, and this model gives maps only. Choose of jsonl, coco, csv, masks,"),
        ("yolo", MAPS_ONLY, "yolo needs objects"),
        ("labelme", MAPS_ONLY, "labelme needs objects"),
        ("crops", MAPS_ONLY, "crops needs objects"),
    ],
)
def test_what_a_model_cannot_give_is_refused(form: str, gives: Gives, said: str, tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match=f"The form {said}"):
        open_outputs(["jsonl", form], tmp_path / "out", gives=gives)
    assert not (tmp_path / "out").exists()


def test_what_a_model_gives_is_not_refused(tmp_path: Path) -> None:
    assert set(_NEEDS) < set(OUTPUTS)
    for gives in (DETECTOR, MAPS_ONLY, Gives()):
        forms = [form for form in OUTPUTS if not gives.missing(form)]
        open_outputs(forms, tmp_path, gives=gives).close()
    assert [form for form in OUTPUTS if Gives().missing(form)] == []
    assert not MAPS_ONLY.missing("masks")
    assert not Gives(maps=False, segments=False).missing("masks")
    with open_outputs(["jsonl"], tmp_path, gives=DETECTOR, always=("maps", "panoptic")) as outputs:
        outputs.add(frame(0), found(0))
    assert outputs.written == ["predictions.jsonl"]
    assert open_outputs(["none"], tmp_path, gives=DETECTOR, always=("maps",)).written == []


def test_what_models_give() -> None:
    detector = create_model("ssdlite", ["a"])
    assert Gives.of(detector, tracked=True) == Gives(masks=False, maps=False, segments=False)
    assert Gives.of(detector, tracked=False) == DETECTOR
    assert Gives.of(create_model("lraspp", ["a", "b"]), tracked=True) == MAPS_ONLY
    merging = create_model("panoptic_fpn", {"objects": ["a"], "semantic": ["b", "c"]})
    assert Gives.of(merging, tracked=True) == Gives()


def test_no_picture_has_the_name_of_results(tmp_path: Path) -> None:
    for name in ("sheet.png", "Predictions.png", "panoptic.png", "a.png"):
        save(tmp_path / "photos" / name)
    (source,) = open_sources([tmp_path / "photos"])
    names = [taken.name for taken in source]
    assert sorted(names) == ["Predictions-2", "a", "panoptic-2", "sheet-2"]
    with open_outputs(list(OUTPUTS), tmp_path / "out") as outputs:
        outputs.add(frame(0), found(0, masks=True, tracks=True))
    beside = {path.name.split(".")[0] for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert beside <= RESERVED
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} <= set(RESULT_FOLDERS)


def test_a_sheet_does_not_replace_what_is_predicted(tmp_path: Path) -> None:
    save(tmp_path / "sheet.jpg")
    before = (tmp_path / "sheet.jpg").read_bytes()
    image = np.zeros((*SIZE, 3), np.uint8)
    taken = Frame(image, str(tmp_path / "sheet.jpg"), "sheet-2")
    with pytest.raises(VisionTasksError, match=r"sheet\.jpg is among what is predicted.*another --out"):  # noqa: SIM117
        with open_outputs(["sheet"], tmp_path) as outputs:
            outputs.add(taken, found(0))
    assert (tmp_path / "sheet.jpg").read_bytes() == before


def test_a_second_run_does_not_predict_the_first_ones_results(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png")
    save(tmp_path / "more" / "masks" / "c.png")

    def run(spec: object) -> list[str]:
        sources = open_sources([spec], out=tmp_path)
        with open_outputs(list(OUTPUTS), tmp_path) as outputs:
            for taken in (taken for source in sources for taken in source if taken.name != "sheet"):
                outputs.add(Frame(np.zeros((*SIZE, 3), np.uint8), taken.source, taken.name), found(1, 2, masks=True))
        (tmp_path / "sheet.jpg").unlink()
        for name in ("masks", "panoptic"):
            save(tmp_path / name / "a.png")
        return [Path(line["file"]).relative_to(tmp_path).as_posix() for line in lines_of(tmp_path)]

    everything = ["a.png", "b.png", "more/masks/c.png"]
    assert [run(tmp_path), run(tmp_path)] == [everything] * 2
    assert sorted(run(f"{tmp_path}/**/*.png")) == everything
    assert run(f"{tmp_path}/*.png") == ["a.png", "b.png"]
    assert run(tmp_path / "more") == ["more/masks/c.png"]
    # A folder that is named itself is meant.
    (source,) = open_sources([tmp_path / "masks"], out=tmp_path)
    assert source.length == 1
    linked = tmp_path / "photos"
    linked.mkdir()
    (linked / "crops").symlink_to(tmp_path / "crops")
    Image.new("RGB", (4, 4)).save(linked / "d.png")
    (source,) = open_sources([linked], out=tmp_path)
    assert source.length == 1


def test_a_sheet_of_frames_of_any_kind(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4, 5):
        for kind in (np.uint8, np.uint16):
            with open_outputs(["sheet"], tmp_path / f"{channels}{kind.__name__}") as outputs:
                outputs.add(Frame(np.full((*SIZE, channels), 90, kind), "a", "a"), found(1))
            assert outputs.written == ["sheet.jpg"]
