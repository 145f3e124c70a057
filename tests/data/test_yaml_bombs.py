"""data.yaml and --map files that would grow without end."""

import pytest
import yaml

from vision_tasks.cli.data_merge import read_renaming
from vision_tasks.data.formats.yolo_files import describe
from vision_tasks.data.yaml_files import read_yaml
from vision_tasks.errors import VisionTasksError

# Ten levels, each of ten times the one before: 10^10 letters when written out.
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{two}: &{two} [{', '.join([f'*{one}'] * 10)}]\n" for one, two in zip("abcdefghi", "bcdefghij", strict=True)
)
# Each level repeats the keys of the one before twice: 2^40 when merged.
_MERGES = "m0: &m0 {k: v}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 41))


@pytest.mark.parametrize("key", ["path: *j", "kpt_shape: *j", "train: *j", "names: *j", "other: 1"])
def test_nested_aliases_are_refused(key, tmp_path):
    (tmp_path / "data.yaml").write_text(f"{_BOMB}train: images\nnames: [cat]\n{key}\n")
    with pytest.raises(VisionTasksError, match=r"data\.yaml: no YAML \(more than 16 aliases"):
        describe(tmp_path / "data.yaml")


@pytest.mark.parametrize("text", [_BOMB, _MERGES, "[" * 50_000, "a: 2001-99-99\n", f"a: {'9' * 6000}\n", "a: [\n"])
def test_map_files_end_in_a_clear_error(text, tmp_path):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(VisionTasksError, match=r"map\.yaml: no YAML \("):
        read_renaming(tmp_path / "map.yaml")


def test_a_few_aliases_are_read_as_any_reader_reads_them(tmp_path):
    text = "a: &a [1, two]\nb: [*a, *a]\nc: &c {x: 2001-01-02}\nd: {<<: *c, y: no}\n"
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml") == yaml.safe_load(text)
    assert read_yaml(tmp_path / "x.yaml", typed=False)["d"] == {"<<": {"x": "2001-01-02"}, "y": "no"}


@pytest.mark.parametrize("value", ["[a, b]", "{a: b}"])
def test_path_and_kpt_shape_must_be_what_they_are(value, tmp_path):
    (tmp_path / "data.yaml").write_text(f"path: {value}\ntrain: images\nnames: [cat]\n")
    with pytest.raises(VisionTasksError, match="path is the folder of the data, a text"):
        describe(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text(f"kpt_shape: [{value}, 2]\ntrain: images\nnames: [cat]\n")
    with pytest.raises(VisionTasksError, match="kpt_shape is"):
        describe(tmp_path / "data.yaml")
