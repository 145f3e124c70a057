"""Darknet's files: what is read, what is refused and where the message points, and what a fine-tune keeps."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import vision_tasks as vt
from tests.small_darknet import CFGS, shapes_of, write_darknet
from vision_tasks.errors import VisionTasksError
from vision_tasks.weights import published
from vision_tasks.weights.darknet import read_weights
from vision_tasks.weights.darknet_cfg import plan, read_cfg, text_of

NET = "[net]\nwidth=64\nheight=64\nchannels=3\n"
HEAD = "[convolutional]\nfilters=16\nactivation=linear\n[yolo]\nmask=0,1\nanchors=4,4,8,8\nclasses=3\n"


def test_layers_of_a_cfg_worked_out_by_hand() -> None:
    layers = plan(read_cfg(CFGS["v4"]))
    # (kind, sources, channels, stride), counted on paper
    found = [(x.section.kind, x.sources, x.channels, x.stride) for x in layers]
    assert found[:10] == [
        ("convolutional", (-1,), 8, 2),
        ("convolutional", (0,), 16, 4),
        ("route", (1,), 8, 4),  # the second half of 16
        ("convolutional", (2,), 8, 4),
        ("convolutional", (3,), 8, 4),
        ("route", (4, 3), 16, 4),
        ("convolutional", (5,), 16, 4),
        ("route", (1, 6), 32, 4),
        ("maxpool", (7,), 32, 8),
        ("convolutional", (8,), 24, 8),
    ]
    assert found[17] == ("route", (16, 14, 12, 11), 64, 16)  # pyramid pooling
    assert found[20] == ("route", (19, 9), 40, 8)  # after upsampling
    assert [x[0] for x in found].count("yolo") == 2


@pytest.mark.parametrize("name", CFGS)
def test_every_value_of_a_file_arrives_once(name: str, tmp_path: Path) -> None:
    cfg, weights = write_darknet(tmp_path, name)
    state = read_weights(weights, plan(read_cfg(text_of(cfg))))
    values = np.frombuffer(weights.read_bytes(), "<f4", offset=20)
    found = torch.cat([t.flatten() for t in state.values()]).numpy()
    np.testing.assert_array_equal(np.sort(found), np.sort(values))


def test_order_within_a_layer(tmp_path: Path) -> None:
    """Bias, scale, mean, variance, kernel; and without batch norm bias, kernel."""
    path = tmp_path / "count.weights"
    cfg = NET + "[convolutional]\nbatch_normalize=1\nfilters=2\nsize=1\nactivation=relu\n" + HEAD
    path.write_bytes(struct.pack("<3iq", 0, 2, 0, 0) + np.arange(14 + 16 + 32, dtype="<f4").tobytes())
    state = read_weights(path, plan(read_cfg(cfg)))
    assert state["backbone.layers.0.norm.bias"].tolist() == [0, 1]
    assert state["backbone.layers.0.norm.weight"].tolist() == [2, 3]
    assert state["backbone.layers.0.norm.running_mean"].tolist() == [4, 5]
    assert state["backbone.layers.0.norm.running_var"].tolist() == [6, 7]
    assert state["backbone.layers.0.conv.weight"].flatten().tolist() == [8, 9, 10, 11, 12, 13]
    # Two anchors of x, y, w, h, objectness and three classes: biases 14..29, kernels from 30, two inputs each.
    assert state["heads.objects.yolo2.boxes.bias"].tolist() == [14, 15, 16, 17, 22, 23, 24, 25]
    assert state["heads.objects.yolo2.objectness.bias"].tolist() == [18, 26]
    assert state["heads.objects.yolo2.classes.bias"].tolist() == [19, 20, 21, 27, 28, 29]
    assert state["heads.objects.yolo2.objectness.weight"].flatten().tolist() == [38, 39, 54, 55]


@pytest.mark.parametrize(("header", "size"), [((0, 1, 0), 4), ((0, 2, 0), 8), ((1, 0, 0), 8)])
def test_header_grew_with_version_0_2(header: tuple[int, int, int], size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(struct.pack("<3i", *header) + bytes(size) + np.arange(16 + 16 * 3, dtype="<f4").tobytes())
    state = read_weights(path, plan(read_cfg(NET + HEAD)))
    assert state["heads.objects.yolo1.boxes.bias"][:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cut", [1, 4, 400])
def test_truncated_file_names_the_layer(cut: int, tmp_path: Path) -> None:
    cfg, weights = write_darknet(tmp_path, "v3-tiny")
    weights.write_bytes(weights.read_bytes()[:-cut])
    line = 1 + CFGS["v3-tiny"][: CFGS["v3-tiny"].rindex("[convolutional]")].count("\n")
    with pytest.raises(VisionTasksError, match=rf"truncated.*end in layer 18 \(\[convolutional\] on line {line} "):
        vt.create_model("darknet", ["a"], weights=weights, cfg=str(cfg))


def test_a_file_that_is_too_long_is_of_another_cfg(tmp_path: Path) -> None:
    cfg, weights = write_darknet(tmp_path, "v3-tiny")
    weights.write_bytes(weights.read_bytes() + bytes(12))
    with pytest.raises(VisionTasksError, match=r"too long: .* 12 more than the cfg's 10 convolutions"):
        vt.create_model("darknet", ["a"], weights=weights, cfg=str(cfg))


def test_what_is_no_weight_file(tmp_path: Path) -> None:
    cfg, weights = write_darknet(tmp_path, "v3")
    layers = plan(read_cfg(text_of(cfg)))
    weights.write_bytes(b"abc")
    with pytest.raises(VisionTasksError, match=r"truncated: it has 3 bytes"):
        read_weights(weights, layers)
    weights.write_bytes(b"<html>404 not found</html>")
    with pytest.raises(VisionTasksError, match="does not begin with a version of Darknet's"):
        read_weights(weights, layers)
    with pytest.raises(VisionTasksError, match="There is no weight file"):
        read_weights(tmp_path / "none.weights", layers)
    with pytest.raises(VisionTasksError, match="fit darknet, not faster_rcnn"):
        vt.create_model("faster_rcnn", ["a"], weights=weights)


def test_the_first_layers_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`darknet partial` writes the first N layers to a file that ends in .conv.N: pretrained bodies come so."""
    cfg, weights = write_darknet(tmp_path, "v3")
    first = [np.prod(shape) + shape[0] * (4 if norm else 1) for norm, shape in shapes_of(CFGS["v3"])[:4]]
    partial = tmp_path / "v3.conv.5"  # four convolutions and a shortcut
    partial.write_bytes(weights.read_bytes()[: 20 + 4 * int(sum(first))])
    with caplog.at_level(logging.WARNING):
        model = vt.create_model("darknet", ["a"], weights=partial, cfg=str(cfg))
    whole = vt.create_model("darknet", ["a"], weights=weights)
    for i in (0, 3):
        assert torch.equal(model.backbone.layers[i].conv.weight, whole.backbone.layers[i].conv.weight)
    assert not torch.equal(model.backbone.layers[5].conv.weight, whole.backbone.layers[5].conv.weight)
    assert "lacks weights that stay random: backbone.layers.12" in caplog.text


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ("", "Give cfg="),
        ("\n# nothing\n", "has no sections"),
        ("[yolo]\n", r"begins with \[yolo\]"),
        (NET + "[convolutional\n", r"line 5: '\[convolutional' is no \[heading\]"),
        (NET + "[maxpool]\nsize 2\n", r"line 6: 'size 2' is neither"),
        ("width=3\n[net]\n", r"line 1: 'width=3' stands before"),
        (NET, r"no \[yolo\] layer"),
        (NET + "[connected]\noutput=3\n" + HEAD, r"line 5: \[connected\], layer 0: this layer is not supported"),
        (NET + "[convolutional]\nfilters=many\n" + HEAD, r"line 5: .*filters='many' cannot be read"),
        (NET + "[convolutional]\nfilters=0\n" + HEAD, r"filters=0 must be at least 1"),
        (NET + "[convolutional]\nfilters=9999999\n" + HEAD, r"9999999 channels; the most"),
        (NET + "[convolutional]\nfilters=4\ngroups=2\n" + HEAD, r"groups=2 divides 3 to 4 channels"),
        (NET + "[convolutional]\nfilters=4\nactivation=loggy\n" + HEAD, r"layer 0: activation=loggy is not supported"),
        (NET + "[convolutional]\nfilters=4\nxnor=1\n" + HEAD, r"xnor=1 is not supported"),
        (NET + "[convolutional]\nfilters=4\n[route]\nlayers=-3\n" + HEAD, r"reads layer -3, but only layers 0 to 0"),
        (NET + "[convolutional]\nfilters=4\n[route]\nlayers=1\n" + HEAD, r"reads layer 1, but only"),
        (
            NET + "[convolutional]\nfilters=4\n[convolutional]\nfilters=8\n[shortcut]\nfrom=-2\n" + HEAD,
            r"line 9: \[shortcut\], layer 2: its sources have different channels: \[8, 4\]",
        ),
        (
            NET + "[convolutional]\nfilters=4\n[maxpool]\nstride=2\n[route]\nlayers=-1,-2\n" + HEAD,
            r"different strides: \[2, 1\]",
        ),
        (NET + "[convolutional]\nfilters=4\n[upsample]\nstride=2\n" + HEAD, r"finer than the image"),
        (NET + HEAD.replace("16", "18"), r"line 5: .*filters=18, but the \[yolo\] .* = 16"),
        (NET + HEAD.replace("linear", "leaky"), r"activation=linear and no batch_normalize"),
        (NET + HEAD.replace("mask=0,1", "mask=0,2"), r"mask \(0, 2\) must name some of the 2 anchors"),
        (NET + HEAD.replace("8,8", "8,-8"), r"pairs of positive numbers"),
        (NET + HEAD + "iou_loss=wow\n", r"iou_loss=wow is not known; there are mse, iou, giou, diou, ciou"),
        (NET + HEAD + "[convolutional]\nfilters=3\n" + HEAD, r"layer 2: reads the \[yolo\] layer 1"),
        (NET + HEAD.replace("classes=3", ""), r"\[yolo\], layer 1: lacks classes="),
        (NET + HEAD.replace("4,4", "4,nan"), "pairs of positive numbers"),
        (NET.replace("64", "0") + HEAD, r"line 1: \[net\]: height=0 must be at least 1"),
        (NET.replace("64", "99999") + HEAD, r"height=99999 must be at most 16384"),
        (NET.replace("=3", "=70000") + HEAD, r"channels=70000 must be at most 65536"),
        (NET + "[convolutional]\nsize=1001\n" + HEAD, r"layer 0: size=1001 must be at most 256"),
        (NET + "[convolutional]\nstride=1000\n[upsample]\nstride=1000\n" + HEAD, "stride=1000 must be at most"),
        (NET + "[maxpool]\nstride=2\npadding=9999999\n" + HEAD, r"padding=9999999 must be at most"),
        (NET + "[convolutional]\nfilters=65536\n" * 2 + HEAD, r"layer 1: brings the network to 4295163904 weights"),
        (NET + HEAD + "scale_x_y=0\n", r"scale_x_y=0.0 must be positive"),
        (NET + "[avgpool]\n" + HEAD, r"\[yolo\], layer 2: must read a map"),
    ],
)  # fmt: skip
def test_malformed_cfg(cfg: str, message: str) -> None:
    with pytest.raises(VisionTasksError, match=message):
        vt.create_model("darknet", ["a", "b", "c"], cfg=cfg)


def test_what_is_no_cfg_file(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match=r"There is no Darknet cfg .*none\.cfg"):
        vt.create_model("darknet", ["a"], cfg=str(tmp_path / "none.cfg"))
    (tmp_path / "x.cfg").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(VisionTasksError, match=r"x\.cfg is no text"):
        vt.create_model("darknet", ["a"], cfg=str(tmp_path / "x.cfg"))
    (tmp_path / "y.cfg").write_bytes(bytes(1_000_001))
    with pytest.raises(VisionTasksError, match=r"y\.cfg has 1000001 bytes, too many"):
        vt.create_model("darknet", ["a"], cfg=str(tmp_path / "y.cfg"))


def test_classes_nobody_names(tmp_path: Path) -> None:
    _, weights = write_darknet(tmp_path, "v3")
    with pytest.raises(VisionTasksError, match="3 class outputs, whose names nobody knows"):
        vt.create_model("darknet", weights=weights)


def test_a_checkpoint_is_whole(tmp_path: Path) -> None:
    """The text of the cfg travels inside: neither the cfg nor the weights are needed again."""
    cfg, weights = write_darknet(tmp_path, "v4")
    model = vt.create_model("darknet", ["a", "b", "c"], weights=weights, size=(64, 64), score_threshold=0.1)
    path = vt.save(model, tmp_path / "model.ckpt")
    cfg.unlink()
    weights.unlink()
    again = vt.load(path)
    image = torch.randint(0, 255, (3, 50, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (want,), (got,) = model.predict(model.preprocess([image])), again.predict(again.preprocess([image]))
    assert len(want) > 5
    assert torch.equal(want.boxes, got.boxes)
    assert again.preprocess.size == (64, 64)


def test_a_fine_tune_keeps_boxes_objectness_and_known_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg, weights = write_darknet(tmp_path, "v3")
    trained = vt.create_model("darknet", ["cat", "dog", "cow"], weights=weights)
    path = vt.save(trained, tmp_path / "three.ckpt")
    with caplog.at_level(logging.WARNING):
        model = vt.create_model("darknet", ["bird", "Dog"], weights=path, cfg=str(cfg))
    assert "knows Dog" in caplog.text
    assert "does not know bird" in caplog.text
    for level in ("yolo10", "yolo17"):
        theirs, ours = (m.heads["objects"].get_submodule(level) for m in (trained, model))
        assert torch.equal(ours.boxes.weight, theirs.boxes.weight)
        assert torch.equal(ours.objectness.bias, theirs.objectness.bias)
        kept = theirs.classes.weight.unflatten(0, (3, 3))[:, 1]  # anchors, classes
        assert torch.equal(ours.classes.weight.unflatten(0, (3, 2))[:, 1], kept)
        assert not torch.equal(ours.classes.weight.unflatten(0, (3, 2))[:, 0], kept)


def test_yolo_fastest_is_read_to_the_last_value(real_data: Path) -> None:
    cfg, weights = (real_data / "weights" / f"yolo-fastest-1.1-xl{end}" for end in (".cfg", ".weights"))
    state = read_weights(weights, plan(read_cfg(text_of(cfg))))
    assert sum(t.numel() for t in state.values()) == (weights.stat().st_size - 20) / 4 == 923486
    model = vt.create_model("darknet", weights=weights)
    assert model.categories.names[:2] == ("person", "bicycle")
    assert model.preprocess.size == (320, 320)


def test_coco_weights_go_by_the_name_of_the_cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, weights = write_darknet(tmp_path, "v3-tiny")
    asked: list[str] = []
    monkeypatch.setattr(published, "fetch", lambda url: asked.append(url) or weights)
    cfg = tmp_path / "yolov3-tiny.cfg"
    cfg.write_text(CFGS["v3-tiny"])
    model = vt.create_model("darknet", ["a", "b", "c"], weights="coco", cfg=str(cfg))
    assert asked == ["https://pjreddie.com/media/files/yolov3-tiny.weights"]
    assert model.blueprint is not None
    assert model.blueprint.arguments["cfg"].strip() == CFGS["v3-tiny"].strip()
    for other in (str(tmp_path / "mine.cfg"), CFGS["v3-tiny"], ""):
        with pytest.raises(VisionTasksError, match=r"one of yolov3\.cfg, .*yolov4-tiny\.cfg"):
            vt.create_model("darknet", ["a"], weights="coco", cfg=other)
