"""The decoders of DeepLabV3, DeepLabV3+, FCN and LR-ASPP on maps of random numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import vision_tasks as vt
from vision_tasks.backbones.base import BatchNorm
from vision_tasks.heads.aspp import ASPP, RATES, DeepLabV3Decoder, DeepLabV3PlusDecoder
from vision_tasks.heads.fcn import FCNDecoder, conv_norm_relu
from vision_tasks.heads.lraspp import LRASPPDecoder
from vision_tasks.heads.semantic import Decoder
from vision_tasks.models.tensor_model import TensorModel
from vision_tasks.structures import Target

SIZES = [(96, 130), (77, 161)]
CHANNELS = {"C2": 24, "C3": 12, "C5": 40}
DECODERS: dict[str, Callable[[], Decoder]] = {
    "fcn": lambda: FCNDecoder("C5", 40, 5, BatchNorm),
    "deeplabv3": lambda: DeepLabV3Decoder("C5", 40, 5, (1, 2, 3), BatchNorm, width=16),
    "deeplabv3plus": lambda: DeepLabV3PlusDecoder("C2", "C5", CHANNELS, 5, (1, 2, 3), BatchNorm, width=16),
    "deeplabv3plus_dense": lambda: DeepLabV3PlusDecoder(
        "C2", "C5", CHANNELS, 5, (1, 2, 3), BatchNorm, width=16, separable=False
    ),
    "lraspp": lambda: LRASPPDecoder("C3", "C5", CHANNELS, 5, BatchNorm, width=16),
}


def maps(batch: int = 2, rows: int = 9, columns: int = 7) -> dict[str, Tensor]:
    """As of a backbone at an output stride of 16, with sides that are no multiples."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"C2": (4 * rows - 3, 4 * columns - 1), "C3": (2 * rows - 1, 2 * columns), "C5": (rows, columns)}
    return {level: torch.randn(batch, c, *sizes[level], generator=generator) for level, c in CHANNELS.items()}


@torch.no_grad()
def randomised(module: nn.Module) -> nn.Module:
    """Statistics and factors of batch norm that show whether they are used, and used where they belong."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            part.weight.uniform_(0.5, 2)
            part.bias.normal_(0, 0.3)
    return module.eval()


@pytest.mark.parametrize("name", DECODERS)
def test_every_parameter_learns_and_logits_have_the_finest_maps_size(name: str) -> None:
    decoder = DECODERS[name]()
    features = maps()
    logits = decoder(features, (144, 112))
    assert logits.shape == (2, 5, *features[decoder.levels[0]].shape[-2:])
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())
    own = dict(decoder.named_parameters())
    parts = decoder.class_parameters()
    assert parts
    assert all(len(own[parameter]) == 5 and part == (1, 1) for parameter, part in parts.items())
    assert parts.keys() == {name for name, p in own.items() if len(p) == 5}


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus", "fcn", "lraspp"])
def test_one_image_of_one_cell_can_be_learnt_from(name: str) -> None:
    decoder = DECODERS[name]().train()
    features = {level: torch.randn(1, c, 1, 1) for level, c in CHANNELS.items()}
    logits = decoder(features, (16, 16))
    logits.square().sum().backward()
    assert torch.isfinite(logits).all()


def test_the_mean_of_one_image_takes_running_statistics() -> None:
    torch.manual_seed(0)
    aspp = ASPP(40, (1, 2), BatchNorm, width=16)
    randomised(aspp).train()
    before = {k: v.clone() for k, v in aspp.whole.state_dict().items()}
    x = maps(batch=1)["C5"]
    mean = x.mean((2, 3), keepdim=True)
    seen: list[Tensor] = []
    aspp.whole.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    aspp(x)
    norm = aspp.whole[1]
    expected = nn.functional.conv2d(mean, aspp.whole[0].weight)
    expected = nn.functional.batch_norm(expected, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(seen[0], expected)
    assert all(torch.equal(v, before[k]) for k, v in aspp.whole.state_dict().items())
    with pytest.raises(ValueError, match="more than 1 value per channel"):  # what torch's own would do
        ASPP(40, (1, 2), nn.BatchNorm2d, width=16)(x)


@pytest.mark.parametrize("model", ["deeplabv3", "deeplabv3plus", "fcn", "lraspp"])
def test_training_with_one_image(model: str) -> None:
    torch.manual_seed(0)
    network = vt.create_model(model, ["road", "sky"], backbone="resnet_narrow").train()
    truth = Target(0, (40, 56), semantic=torch.zeros(40, 56, dtype=torch.int16))
    losses = network.losses(network.preprocess([torch.zeros(3, 40, 56, dtype=torch.uint8)], [truth]))
    total = torch.stack([*losses.values()]).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in network.parameters())
    assert ("semantic/auxiliary" in losses) == (model in ("deeplabv3", "fcn"))


@pytest.mark.parametrize(("stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
@pytest.mark.parametrize("model", ["deeplabv3", "deeplabv3plus"])
def test_dilations_follow_the_output_stride(model: str, stride: int, rates: tuple[int, ...]) -> None:
    network = vt.create_model(model, ["road", "sky"], backbone="resnet_narrow", output_stride=stride)
    assert RATES[stride] == rates
    branches = list(network.heads["semantic"].decoder.aspp.branches)[1:]
    assert [branch[0].dilation for branch in branches] == [(rate, rate) for rate in rates]
    assert [branch[0].padding for branch in branches] == [(rate, rate) for rate in rates]
    assert network.features(torch.zeros(1, 3, 64, 64))["C5"].shape[-1] == 64 // stride


@pytest.mark.parametrize("kind", [{"multi_label": True}, {"categories": ["cell"]}, {"in_channels": 5}])
@pytest.mark.parametrize("model", ["deeplabv3", "deeplabv3plus", "fcn", "lraspp"])
def test_layers_single_categories_and_other_channels(model: str, kind: dict) -> None:
    options = {"categories": ["road", "sky", "tree"], "backbone": "resnet_narrow"} | kind
    network = vt.create_model(model, **options).train()
    channels, categories = options.get("in_channels", 3), len(options["categories"])
    layers = "in_channels" not in options
    shape = (categories, 33, 47) if layers else (33, 47)
    images = [torch.randint(0, 255, (channels, 33, 47), dtype=torch.uint8) for _ in range(2)]
    truth = torch.ones(shape, dtype=torch.int8 if layers else torch.int16)
    batch = network.preprocess(images, [Target(i, (33, 47), semantic=truth) for i in range(2)])
    assert all(torch.isfinite(loss) and loss > 0 for loss in network.losses(batch).values())
    (first, _) = network.eval().predict(batch)
    assert first.semantic is not None
    assert first.semantic.shape == shape
    assert first.semantic.dtype == (torch.bool if layers else torch.int16)


@pytest.mark.parametrize("separable", [True, False])
def test_deeplabv3plus_equals_segmentation_models(separable: bool) -> None:
    """With its weights, after its differences are taken out.

    As in the paper, ours refines twice after the maps are joined and nowhere else; theirs refines once before and once
    after, and always with separable convolutions. Theirs enlarges with aligned corners, as the authors' program does
    and no other layer of the network.
    """
    torch.manual_seed(0)
    theirs = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=7, decoder_aspp_separable=separable)
    theirs.decoder.up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
    randomised(theirs)
    features = theirs.encoder(torch.randn(2, 3, 64, 96))
    ours = DeepLabV3PlusDecoder("C2", "C5", {"C2": 64, "C5": 512}, 7, (12, 24, 36), refinements=1, separable=separable)
    before = conv_norm_relu(256, 256, nn.BatchNorm2d, separable=True)
    ours.aspp = nn.Sequential(ours.aspp, before)
    if not separable:
        ours.refine = nn.Sequential(conv_norm_relu(304, 256, nn.BatchNorm2d, separable=True))
    copy_in_order(theirs.decoder.aspp[0].convs[:-1], ours.aspp[0].branches)
    copy_in_order(theirs.decoder.aspp[0].convs[-1], ours.aspp[0].whole)
    copy_in_order(theirs.decoder.aspp[0].project, ours.aspp[0].project)
    copy_in_order(theirs.decoder.aspp[1:], before)
    copy_in_order(theirs.decoder.block1, ours.reduce)
    copy_in_order(theirs.decoder.block2, ours.refine)
    copy_in_order(theirs.segmentation_head[0], ours.classifier)
    with torch.no_grad():
        want = theirs.segmentation_head[0](theirs.decoder(features))
        got = ours.eval()({"C2": features[2], "C5": features[-1]}, (64, 96))
    assert want.std() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)


def copy_in_order(theirs: nn.Module, ours: nn.Module) -> None:
    """Parameters and statistics in the order of their layers, whatever they are called."""
    values = [*theirs.state_dict().values()]
    names = [*ours.state_dict()]
    assert len(names) == len(values) > 0
    ours.load_state_dict(dict(zip(names, values, strict=True)))


def test_a_dilation_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="rates must be dilations of at least 1"):
        ASPP(8, (0, 2), BatchNorm)
    with pytest.raises(vt.VisionTasksError, match=r"deeplabv3 cannot be built.*rates must be"):
        vt.create_model("deeplabv3", ["a", "b"], backbone="resnet_narrow", rates=(0, 2))


@pytest.mark.parametrize(
    "model", ["fcn", *(pytest.param(m, marks=pytest.mark.slow) for m in ("deeplabv3", "deeplabv3plus", "lraspp"))]
)
@pytest.mark.slow
def test_an_export_of_any_size_draws_what_predict_draws(model: str) -> None:
    torch.manual_seed(0)
    network = vt.create_model(model, ["road", "sky", "tree"], backbone="resnet_narrow")
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 255, (1, 3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    first = network.preprocess([images[0][0]]).images
    network.train().features(first)
    decoder = randomised(network.eval().heads["semantic"].decoder)
    with torch.no_grad():  # every category has its chance
        mean = decoder(network.features(first), SIZES[0]).mean(dim=(0, 2, 3))
        decoder.get_parameter(list(decoder.class_parameters())[1]).sub_(mean)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    inputs = [(image, torch.tensor([image.shape[-2:]])) for image in images]
    program = torch.export.export(
        TensorModel(network), inputs[0], dynamic_shapes={"images": sides, "image_sizes": None}
    ).module()
    for image, size in inputs:
        with torch.inference_mode():
            (want,) = network.predict(network.preprocess([image[0]]))
        drawn = program(image, size)["semantic"]
        assert want.semantic is not None
        assert drawn.shape == (1, *image.shape[-2:])
        assert (drawn[0] == want.semantic).float().mean() > 0.999  # of equal scores either may win
        assert len(want.semantic.unique()) > 1
