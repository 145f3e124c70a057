"""Predictions in the words of other programs. Each is imported only when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    import pandas
    import supervision

    from vision_tasks.structures import Prediction, Rle


def to_coco(prediction: Prediction, image_id: int) -> list[dict[str, Any]]:
    """Objects as COCO's results, which `pycocotools.COCO.loadRes` reads in a list with those of other images.

    Returns:
        N rows with `image_id`, `category_id` (original), `bbox` (x, y, width, height in pixels), `score`, and where
        they are known `segmentation` (compressed RLE) and `track_id`. To evaluate masks with the areas that
        pycocotools takes from them, use `metrics.coco_results.results_of(prediction, image_id, "segm")`.

    Raises:
        VisionTasksError: no objects' boxes, or a box or score that is not finite.
    """
    _check_objects(prediction)
    return [{"image_id": image_id, **row} for row in _result(prediction).objects]


def to_labelme(
    prediction: Prediction, image_path: str | os.PathLike[str], rles: Sequence[Rle] | None = None
) -> dict[str, Any]:
    """What a labelme file of one image holds; `json.dump` it beside the image, or where `image_path` leads from.

    A mask becomes a polygon a part, to a third of a pixel; parts of one object share a `group_id`; holes are left out.
    A box becomes a rectangle, and so does the box of a mask without a pixel. The score is in `description` and, for
    programs that know it, in `score`; the track's number is the `group_id`.

    Args:
        prediction: with boxes. image_path: the image, as seen from where the file is to be.
        rles: the masks, if they were encoded already.

    Raises:
        VisionTasksError: no objects' boxes, or a box or score that is not finite.
    """
    from vision_tasks.inference.outputs.outlines import outlines_of

    _check_objects(prediction)
    result = _result(prediction)
    masks = rles if rles is not None else result.rles
    names = dict(zip(prediction.categories.ids, prediction.categories.names, strict=True))
    shapes = []
    for number, row in enumerate(result.objects):
        x, y, width, height = row["bbox"]
        outlines = [] if masks is None else [outline.tolist() for outline in outlines_of(masks[number])]
        group = row.get("track_id", number + 1 if len(outlines) > 1 else None)
        shapes += [
            {
                "label": names[row["category_id"]],
                "points": points,
                "group_id": group,
                "description": f"score {row['score']:.3f}",
                "shape_type": "polygon" if outlines else "rectangle",
                "flags": {},
                "mask": None,
                "score": round(row["score"], 6),
            }
            for points in outlines or [[[x, y], [x + width, y + height]]]
        ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": os.fspath(image_path),
        "imageData": None,
        "imageHeight": prediction.size[0],
        "imageWidth": prediction.size[1],
    }


def to_pandas(prediction: Prediction) -> pandas.DataFrame:
    """A row an object, the best first.

    Returns:
        Columns `category`, `category_id`, `score`, `x1`, `y1`, `x2`, `y2` (pixels), `area` (pixels of the mask if
        there is one, else of the box), and `track_id` of tracked objects.

    Raises:
        VisionTasksError: pandas is not installed; no objects' boxes, or a box or score that is not finite.
    """
    pd = _imported("pandas")
    _check_objects(prediction)
    result = _result(prediction)
    assert prediction.boxes is not None
    names = dict(zip(prediction.categories.ids, prediction.categories.names, strict=True))
    corners = result.prediction.boxes
    assert corners is not None
    columns: dict[str, Any] = {
        "category": [names[row["category_id"]] for row in result.objects],
        "category_id": [row["category_id"] for row in result.objects],
        "score": [row["score"] for row in result.objects],
        **dict(zip(("x1", "y1", "x2", "y2"), corners.numpy().T, strict=True)),
        "area": result.areas,
    }
    if prediction.track_ids is not None:
        columns["track_id"] = prediction.track_ids.cpu().numpy()
    return pd.DataFrame(columns)


def to_supervision(prediction: Prediction) -> supervision.Detections:
    """`supervision.Detections` with boxes, masks, scores, labels, tracks, and `data["class_name"]`.

    `class_id` is the label 0..K-1. Masks are made at full size, (N, H, W) bool, which is what supervision holds.

    Raises:
        VisionTasksError: supervision is not installed; no objects' boxes.
    """
    import numpy as np

    from vision_tasks.ops import masks as mask_ops

    sv = _imported("supervision")
    _check_objects(prediction)
    found = prediction.to("cpu")
    assert found.boxes is not None
    assert found.labels is not None
    labels = found.labels.numpy()
    return sv.Detections(
        xyxy=found.boxes.numpy(),
        mask=None if found.masks is None else mask_ops.render(found.masks).numpy(),
        confidence=None if found.scores is None else found.scores.numpy(),
        class_id=labels,
        tracker_id=None if found.track_ids is None else found.track_ids.numpy(),
        data={"class_name": np.array(found.categories.names, dtype=np.str_)[labels]},
    )


def _result(prediction: Prediction) -> Any:
    import numpy as np

    from vision_tasks.inference.frames import Frame
    from vision_tasks.inference.outputs.result import Result

    return Result(Frame(np.zeros((0, 0, 3), np.uint8), "", ""), prediction)


def _check_objects(prediction: Prediction) -> None:
    if prediction.boxes is None:
        raise VisionTasksError("This prediction has no objects: its model draws maps. Use its `semantic` field.")


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in (None, name):
            raise VisionTasksError(f"{name} is not installed ({error}). Install it with: pip install {name}") from error
        raise VisionTasksError(
            f"{name} is installed, but not the module {error.name} that it needs ({error}). Install all that it needs "
            f"with: pip install {name}"
        ) from error
    except ImportError as error:
        raise VisionTasksError(
            f"{name} is installed, but cannot be loaded ({error}). Repair it with: pip install --force-reinstall {name}"
        ) from error
