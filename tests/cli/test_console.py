"""Names from data cannot steer the terminal, wherever the command line says them."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.cli.console import complain, console, printable, say, set_up_logging, table
from vision_tasks.cli.main import main

_ESC = "\x1b]0;owned\x07\x1b[2Jcat\x9b31m\u202e\r"


def test_what_steers_a_terminal_is_replaced_and_letters_stay():
    plain = "naïve 猫 👩\u200d🚀 שָׁלוֹם\n\ta\u00a0b"
    assert printable(plain) == plain
    every = "".join(map(chr, [*range(32), *range(127, 160)]))
    assert set(printable(every)) == {"\ufffd", "\t", "\n"}
    assert printable("\ud800x").encode() == "\ufffdx".encode()


def test_results_tables_warnings_and_errors_say_it_so(capsys):
    say(_ESC)
    say(table([{"name": _ESC + "\nfake row", "n": 1}], ["name", "n"]))
    say(f"\033[31;1mbreaks\033[0m {_ESC}", colored=True)
    complain(_ESC)
    set_up_logging()
    logging.getLogger("vision_tasks.test").warning("%s", _ESC)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "\ufffd]0;owned\ufffd\ufffd[2Jcat\ufffd31m\ufffd\ufffd"
    assert len(lines) == 4
    assert lines[3].startswith("\033[31;1mbreaks\033[0m \ufffd]0;owned")
    for text in (lines[0], lines[2], captured.err):
        assert "cat" in text
        assert not any(c in text for c in "\x1b\x07\x9b\u202e\r")
    assert console().file is sys.stderr


@pytest.mark.parametrize("command", ["data stats", "data split", "convert", "doctor", "refused"])
def test_commands_on_a_hostile_set(command, tmp_path: Path, monkeypatch, capsys):
    data = tmp_path / "data"
    data.mkdir()
    name = f"{_ESC}.png".replace("/", "")
    content = {
        "images": [{"id": 1, "file_name": name, "width": 8, "height": 6}, {"id": 2, "file_name": "b.png"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0} for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": _ESC}, {"id": 2, "name": f"{_ESC} "}],
    }
    if command == "refused":
        content["images"][0]["file_name"] = f"../{_ESC}.png"
    (data / "instances_train.json").write_text(json.dumps(content))
    for file in (name, "b.png"):
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(data / file)
    (data / name).write_bytes(b"no image")
    words = {
        "data stats": ["data", "stats", data],
        "data split": ["data", "split", data, tmp_path / "out", "--shares", "0.5,0.5"],
        "convert": ["convert", data, tmp_path / "out", "--to", "voc"],
        "doctor": ["doctor", data],
        "refused": ["convert", data, tmp_path / "out", "--to", "voc"],
    }[command]
    monkeypatch.setattr(sys, "argv", ["vision-tasks", *map(str, words)])
    with pytest.raises(SystemExit):
        main()
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "owned" in said
    assert not any(c in said for c in "\x1b\x07\x9b\u202e\r")
