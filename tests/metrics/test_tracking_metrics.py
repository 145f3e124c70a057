"""Tracking metrics: TrackEval's figures, and cases worked out by hand."""

import numpy as np
import pytest

from tests.metrics.tracking_reference import linked, rows_of, scene
from vision_tasks.data.formats.mot import read_mot
from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics import tracking_evaluate

SCENES = [(1, 30, 8, 20, 10, 2), (2, 12, 15, 0, 0, 0), (3, 25, 10, 50, 30, 5)]

NAMES = [
    "HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA", "HOTA(0)", "LocA(0)",
    "HOTALocA(0)", "MOTA", "MOTP", "MODA", "sMOTA", "Recall", "Precision", "F1", "IDF1", "IDP", "IDR", "TP",
    "FP", "FN", "IDSW", "MT", "PT", "ML", "Frag", "IDTP", "IDFP", "IDFN", "Dets", "GT_Dets", "IDs", "GT_IDs",
]  # fmt: skip
TRACKEVAL = {
    "mot17": [
        0.283362642014, 0.189851470599, 0.428178998163, 0.465419747716, 0.222592053256, 0.48341380568,
        0.609407591236, 0.728023648196, 0.444601768786, 0.433087096528, 0.618507900515, 0.267867790814, -1,
        0.680112860921, -0.900826446281, -1.19034606623, 0.595041322314, 0.284584980237, 0.385026737968,
        0.310160427807, 0.229249011858, 0.479338842975, 72, 181, 49, 12, 5, 6, 3, 15, 58, 195, 63, 253, 121, 43, 14,
    ],
    "mot20": [
        0.291599913333, 0.200392322932, 0.429462575833, 0.463679860809, 0.237734165923, 0.484298936862,
        0.61603213859, 0.729217150824, 0.444511264374, 0.443084109374, 0.630188515945, 0.279226517325,
        -0.859504132231, 0.680112860921, -0.760330578512, -1.04985019846, 0.595041322314, 0.305084745763,
        0.403361344538, 0.324929971989, 0.245762711864, 0.479338842975, 72, 164, 49, 12, 5, 6, 3, 15, 58, 178, 63,
        236, 121, 39, 14,
    ],
    "plain": [
        0.361712912758, 0.327329638616, 0.406395303562, 0.491544746342, 0.422850604773, 0.457770390539,
        0.574573072004, 0.740366169602, 0.445151521715, 0.537908258516, 0.648531465842, 0.348850431384,
        -0.00361010830325, 0.692523505509, 0.115523465704, -0.200084258212, 0.638989169675, 0.549689440994,
        0.590984974958, 0.417362270451, 0.388198757764, 0.451263537906, 177, 145, 100, 33, 14, 14, 4, 33, 125, 197,
        152, 322, 277, 49, 32,
    ],
    "MOT17-02-FRCNN": [
        0.577026833952, 0.352401299717, 0.961615619134, 0.358851674641, 0.902255639098, 0.966711788384,
        0.979899615349, 0.896126385127, 0.583777615182, 0.623862601423, 0.882480179502, 0.550546380489,
        0.397727272727, 0.882480179502, 0.397727272727, 0.350986435029, 0.397727272727, 1, 0.569105691057,
        0.569105691057, 1, 0.397727272727, 35, 0, 53, 0, 8, 1, 13, 0, 35, 0, 53, 35, 88, 9, 22,
    ],
    "MOT17-04-FRCNN": [
        0.67789886427, 0.50410104914, 0.918620378107, 0.516134085213, 0.917571707045, 0.926624141884, 0.970736795423,
        0.910261733353, 0.687195941422, 0.72912414842, 0.896269619608, 0.653491823152, 0.544642857143,
        0.901167681699, 0.550595238095, 0.489637965707, 0.556547619048, 0.989417989418, 0.712380952381,
        0.704761904762, 0.978835978836, 0.550595238095, 187, 2, 149, 2, 21, 4, 17, 2, 185, 4, 151, 189, 336, 28, 42,
    ],
    "both": [
        0.658307272687, 0.472651126926, 0.924962654379, 0.483490566038, 0.915178571429, 0.932586976284,
        0.97193145467, 0.908043246419, 0.667100449621, 0.708564520171, 0.894115019592, 0.633538179835,
        0.514150943396, 0.898221453875, 0.518867924528, 0.460861232925, 0.52358490566, 0.991071428571,
        0.685185185185, 0.679012345679, 0.982142857143, 0.518867924528, 222, 2, 202, 2, 29, 5, 30, 2, 220, 4, 204,
        224, 424, 37, 64,
    ],
}  # fmt: skip
"""By TrackEval 1.3.0 (github.com/JonathonLuiten/TrackEval), MotChallenge2DBox with the benchmarks MOT17, MOT20 and
MOT15: the three scenes together; and MOT17-mini with `linked` detections, its two sequences and both together."""


def assert_equal(numbers, expected):
    theirs = dict(zip(NAMES, TRACKEVAL[expected], strict=True))
    ours = {name: numbers[name] for name in NAMES}
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("rules", ["mot17", "mot20", "plain"])
def test_scenes_against_trackeval(tmp_path, rules):
    truth, results = {}, {}
    for case in SCENES:
        texts = scene(*case)
        truth[f"s{case[0]}"], results[f"s{case[0]}"] = (rows_of(tmp_path, text, case[1]) for text in texts)
    summary = tracking_evaluate(truth, results, rules)
    assert_equal(summary.numbers, rules)
    assert [row["name"] for row in summary.per_sequence] == list(truth)
    assert summary.numbers["Frames"] == 67
    assert np.mean(summary.curves["HOTA"]) == pytest.approx(summary.numbers["HOTA"])
    assert len(summary.curves["alpha"]) == 19


def test_mot17_against_trackeval(tmp_path, real_data):
    truth, results = {}, {}
    for name, frames in (("MOT17-02-FRCNN", 4), ("MOT17-04-FRCNN", 8)):
        folder = real_data / "mot17_mini/train" / name
        truth[name] = read_mot(folder / "gt/gt.txt")
        results[name] = rows_of(tmp_path, linked(read_mot(folder / "det/det.txt"), frames))
    summary = tracking_evaluate(truth, results)
    for row in summary.per_sequence:
        assert_equal(row, row["name"])
    assert_equal(summary.numbers, "both")


def line(frame, track, x, width=10.0, conf=1, kind=1):
    return f"{frame},{track},{x},0,{width},10,{conf},{kind},1\n"


def judged(tmp_path, truth, result, **options):
    return tracking_evaluate(rows_of(tmp_path, truth), rows_of(tmp_path, result), **options)


def test_a_switch_by_hand(tmp_path):
    """One object of 4 frames; track 7 has it for three, track 8 for the last. All boxes are exact."""
    truth = "".join(line(t, 1, 0) for t in (1, 2, 3, 4))
    result = "".join(line(t, 7 if t < 4 else 8, 0) for t in (1, 2, 3, 4))
    n = judged(tmp_path, truth, result).numbers
    assert (n["TP"], n["FP"], n["FN"], n["IDSW"], n["Frag"]) == (4, 0, 0, 1, 0)
    assert (n["MT"], n["PT"], n["ML"]) == (1, 0, 0)
    assert n["MOTA"] == pytest.approx(3 / 4)
    assert n["MOTP"] == 1
    assert (n["IDTP"], n["IDFP"], n["IDFN"]) == (3, 1, 1)
    assert n["IDF1"] == pytest.approx(3 / 4)
    # Association of the three boxes 3 / (4 + 3 - 3), of the one 1 / (4 + 1 - 1); detection is perfect.
    association = (3 * 3 / 4 + 1 * 1 / 4) / 4
    assert n["AssA"] == pytest.approx(association)
    assert n["HOTA"] == pytest.approx(association**0.5)
    assert (n["DetA"], n["LocA"]) == (1, 1)


def test_a_gap_is_a_fragment_and_no_switch(tmp_path):
    truth = "".join(line(t, 1, 0) + line(t, 2, 100) for t in range(1, 6))
    result = "".join(line(t, 7, 0) for t in (1, 2, 4, 5)) + "".join(line(t, 8, 100) for t in range(1, 6))
    n = judged(tmp_path, truth, result).numbers
    assert (n["TP"], n["FN"], n["IDSW"], n["Frag"]) == (9, 1, 0, 1)
    # Of 5 frames 4 are 80 %, and "mostly" is more than that.
    assert (n["MT"], n["PT"], n["ML"]) == (1, 1, 0)


def test_pairs_go_on_before_better_overlaps(tmp_path):
    """In frame 2 track 8 lies better on the object than 7, which had it: 7 goes on, and 8 is wrong."""
    truth = line(1, 1, 0) + line(2, 1, 0)
    result = line(1, 7, 0) + line(2, 7, 2) + line(2, 8, 0)
    n = judged(tmp_path, truth, result).numbers
    assert (n["IDSW"], n["FP"], n["TP"]) == (0, 1, 2)
    assert n["MOTP"] == pytest.approx((1 + 8 / 12) / 2)


def test_overlap_on_the_threshold_counts(tmp_path):
    """(0, 10) and (0, 5): IoU exactly 0.5."""
    n = judged(tmp_path, line(1, 1, 0), line(1, 7, 0, width=5)).numbers
    assert (n["TP"], n["IDTP"]) == (1, 1)
    # Right at the ten alphas up to 0.5 of 19, and there everything agrees.
    assert n["HOTA"] == pytest.approx(10 / 19)
    assert n["LocA"] == pytest.approx((10 * 0.5 + 9) / 19)


def test_what_is_not_judged(tmp_path):
    truth = line(1, 1, 0) + line(1, 2, 100, kind=8) + line(1, 3, 200, conf=0) + line(1, 4, 300, conf=0, kind=3)
    result = line(1, 1, 0) + line(1, 2, 100) + line(1, 3, 200) + line(1, 4, 300) + line(1, 5, 400, kind=3)
    n = judged(tmp_path, truth, result).numbers
    # On the distractor: left out. On an ignored pedestrian and on a car: wrong, by MOTChallenge's rules.
    # Class 3 was not asked for.
    assert (n["TP"], n["FP"], n["FN"], n["Dets"]) == (1, 2, 0, 3)
    plain = judged(tmp_path, truth, result, rules="plain").numbers
    assert (plain["TP"], plain["FP"]) == (2, 3)
    cars = judged(
        tmp_path, truth.replace("0,3,1\n", "1,3,1\n"), result.replace("1,1,1\n", "1,3,1\n"), rules="plain", category=3
    )
    assert (cars.numbers["TP"], cars.numbers["FP"], cars.numbers["GT_Dets"]) == (1, 4, 1)


def test_nothing_found_and_nothing_there(tmp_path):
    n = judged(tmp_path, line(1, 1, 0) + line(2, 1, 0), "").numbers
    assert (n["FN"], n["ML"], n["MOTA"], n["HOTA"], n["IDF1"], n["LocA"]) == (2, 1, 0, 0, 0, 1)
    n = judged(tmp_path, "", line(1, 1, 0)).numbers
    assert (n["FP"], n["MOTA"], n["HOTA"], n["IDF1"]) == (1, 0, 0, 0)
    n = judged(tmp_path, "", "").numbers
    assert n["HOTA"] == 0


def test_frames_after_the_last_truth(tmp_path):
    truth, result = line(1, 1, 0), line(1, 7, 0) + line(2, 7, 0)
    assert judged(tmp_path, truth, result).numbers["FP"] == 1
    n = judged(tmp_path, truth, result, annotated_only=True).numbers
    assert (n["FP"], n["Frames"]) == (0, 1)


@pytest.mark.parametrize(
    ("truth", "result", "options", "message"),
    [
        (line(1, 1, 0), line(1, 7, 0) + line(1, 7, 50), {}, "sequence: the results: id 7 stands 2 times in frame 1"),
        (line(3, 1, 0) + line(3, 1, 9), "", {}, "the truth: id 1 stands 2 times in frame 3"),
        (line(1, 1, 0), line(1, -1, 0), {}, "id -1 in frame 1 .*no track"),
        (line(1, 1, 0, kind=44), "", {}, "class 44"),
        (line(1, 1, 0), "", {"rules": "mot71"}, "mot16, mot17, mot20, plain"),
        (line(1, 1, 0), "", {"category": 3}, "plain"),
        (line(1, 1, 0), "", {"category": 1}, "plain"),
    ],
)
def test_what_is_refused(tmp_path, truth, result, options, message):
    with pytest.raises(VisionTasksError, match=message):
        judged(tmp_path, truth, result, **options)


def test_sequences_go_together_by_name(tmp_path):
    rows = rows_of(tmp_path, line(1, 1, 0))
    with pytest.raises(VisionTasksError, match=r"no results of b; there are those of a\."):
        tracking_evaluate({"a": rows, "b": rows}, {"a": rows})
    with pytest.raises(VisionTasksError, match="no truth of b"):
        tracking_evaluate({"a": rows}, {"a": rows, "b": rows})
    with pytest.raises(VisionTasksError, match="both"):
        tracking_evaluate(rows, {"a": rows})
    with pytest.raises(VisionTasksError, match=r"a: the results have a row in frame 2, but the sequence has 1"):
        tracking_evaluate({"a": rows_of(tmp_path, line(1, 1, 0), length=1)}, {"a": rows_of(tmp_path, line(2, 1, 0))})


@pytest.mark.slow
def test_long_sequences_need_little_memory(tmp_path):
    """3,000 objects and as many tracks: tables of all pairs at 19 alphas would take 1.4 GB."""
    import tracemalloc

    rows = rows_of(tmp_path, "".join(line(t, 10 * t + i, 100 * i) for t in range(1, 301) for i in range(10)))
    tracemalloc.start()
    numbers = tracking_evaluate(rows, rows, "plain").numbers
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (numbers["HOTA"], numbers["IDF1"], numbers["MOTA"]) == (1, 1, 1)
    assert peak < 20e6


def test_wrong_rules_blame_no_sequence(tmp_path):
    rows = {"MOT17-02": rows_of(tmp_path, line(1, 1, 0))}
    for wrong in ({"rules": "mot1"}, {"category": 1}):
        with pytest.raises(VisionTasksError) as caught:
            tracking_evaluate(rows, rows, **wrong)
        assert "MOT17-02" not in str(caught.value)
    with pytest.raises(VisionTasksError, match=r"no results of MOT17-02, and none of other sequences\."):
        tracking_evaluate(rows, {})
