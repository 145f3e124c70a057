"""`evaluate-tracks`: files and folders as they lie about, what is said, and the numbers written."""

import json

import pytest
from typer.testing import CliRunner

from tests.metrics.tracking_reference import scene
from vision_tasks.cli.main import app
from vision_tasks.data.formats.mot_sequences import read_sequence_info, read_sequences
from vision_tasks.errors import VisionTasksError

INFO = "[Sequence]\nname={}\nimDir=img1\nframeRate=30\nseqLength={}\nimWidth=640\nimHeight=480\nimExt=.png\n"


@pytest.fixture
def folders(tmp_path):
    """Truth of two sequences as MOTChallenge has it, and results of three."""
    for name, case in (("A", (1, 30, 8, 20, 10, 2)), ("B", (2, 12, 15, 0, 0, 0))):
        truth, result = scene(*case)
        (tmp_path / "train" / name / "gt").mkdir(parents=True)
        (tmp_path / "train" / name / "gt/gt.txt").write_text(truth)
        (tmp_path / "train" / name / "seqinfo.ini").write_text(INFO.format(name, case[1]))
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / f"{name}.txt").write_text(result)
    (tmp_path / "results" / "C.txt").write_text("1,1,1,1,5,5,1,-1,-1,-1\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate-tracks", *map(str, arguments)])


def test_folders(folders):
    done = run(folders, folders / "results", "--out", folders / "deep/numbers.json")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:4] == ["sequence", "HOTA", "DetA", "AssA"]
    assert [line[0] for line in lines[1:4]] == ["A", "B", "all"]
    assert "No truth of C" in done.stderr
    written = json.loads((folders / "deep/numbers.json").read_text())
    assert [row["name"] for row in written["per_sequence"]] == ["A", "B"]
    assert f"{written['numbers']['HOTA']:.3f}" == lines[3][1]
    assert written["numbers"]["Frames"] == 42
    assert len(written["curves"]["alpha"]) == len(written["curves"]["HOTA"]) == 19


def test_one_file_of_another_name(folders):
    truth = folders / "train/A/gt/gt.txt"
    done = run(truth, folders / "results/A.txt", "--rules", "plain")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].startswith("A ")
    renamed = folders / "mine.txt"
    (folders / "results/A.txt").rename(renamed)
    assert run(folders / "train/A", renamed, "--rules", "plain").stdout == done.stdout


def test_truth_that_ends_before_the_tracks(folders):
    result = folders / "late.txt"
    result.write_text("1,1,1,1,5,5,1\n30,1,1,1,5,5,1\n")
    truth = folders / "early.txt"
    truth.write_text("1,1,1,1,5,5,1,1,1\n")
    done = run(truth, result)
    assert "ends with frame 1, and 1 rows" in " ".join(done.stderr.split())
    done = run(truth, result, "--annotated-only")
    assert done.stderr == ""
    assert done.stdout.splitlines()[1].split()[1] == "1.000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "results/A.txt"), "no results of B"),
        (("train", "other"), "results are of C, and the truth of A, B"),
        (("nowhere", "results"), "is not there"),
        (("results", "train/A/nothing"), "is not there"),
    ],
)
def test_what_is_refused(folders, arguments, message):
    (folders / "other").mkdir()
    (folders / "results/C.txt").rename(folders / "other/C.txt")
    done = run(*(folders / part for part in arguments))
    assert isinstance(done.exception, VisionTasksError)
    assert message in str(done.exception)


def test_folders_that_cannot_be_read(folders):
    (folders / "empty").mkdir()
    with pytest.raises(VisionTasksError, match="neither"):
        read_sequences(folders / "empty")
    (folders / "test/A/gt").mkdir(parents=True)
    (folders / "test/A/gt/gt.txt").write_text("")
    with pytest.raises(VisionTasksError, match="both of a sequence A"):
        read_sequences(folders)


def test_sequence_info(folders):
    info = read_sequence_info(folders / "train/A/seqinfo.ini")
    assert (info.name, info.length, info.rate, info.size, info.images, info.ending) == (
        "A", 30, 30.0, (480, 640), "img1", ".png",
    )  # fmt: skip
    short = folders / "seqinfo.ini"
    short.write_text("[Sequence]\n")
    assert read_sequence_info(short).length is None
    for text in ("", "[Other]\n", "[Sequence]\nseqLength=many\n", "nonsense"):
        short.write_text(text)
        with pytest.raises(VisionTasksError, match=r"seqinfo\.ini"):
            read_sequence_info(short)
