"""Transforms at their edges: images of a few pixels, crops larger than images, arguments of the wrong kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_tasks.data.dataset import Sample
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import Transforms
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Target


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2)])
@pytest.mark.parametrize(
    "entries",
    ["strong", "ssd", "lsj", *([{n: {"p": 1.0}}] for n in ("ToGray", "GridDistortion", "Downscale", "Superpixels"))],
)
def test_images_of_a_few_pixels_do_not_end_a_training(size, entries):
    target = Target(1, size, boxes=torch.tensor([[0.0, 0, size[1], size[0]]]), labels=torch.tensor([0]))
    image = np.full((*size, 3), 100, np.uint8)
    transforms = Transforms(entries)
    for seed in range(8):
        out = transforms(Sample(image, target, Request(0)), np.random.default_rng(seed))
        assert out.image is not None
        assert out.image.dtype == np.uint8
        assert out.image.shape[2] == 3
        assert out.target.size == out.image.shape[:2]


def test_crops_larger_than_an_image_are_found_beforehand():
    widths, heights = np.array([640, 0, 90, 500]), np.array([480, 0, 300, 99])
    crop = {"RandomCrop": {"height": 100, "width": 100}}
    with pytest.raises(VisionTasksError, match=r"100×100 .* 2 of the 4 images; the smallest sides are 99 and 90"):
        Transforms(["HorizontalFlip", crop]).check_sizes(widths, heights)
    Transforms([crop]).check_sizes(widths[:2], heights[:2])
    Transforms([{"Resize": {"height": 200, "width": 200}}, crop]).check_sizes(widths, heights)
    Transforms([{"RandomCrop": {"height": 100, "width": 100, "pad_if_needed": True}}]).check_sizes(widths, heights)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"LargeScaleJitter": {"size": True}}, "size is True"),
        ({"LargeScaleJitter": {"size": "640"}}, "size is 640"),
        ({"GaussianBlur": {"blur_limit": "wide"}}, "GaussianBlur refuses its arguments .*blur_limit"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused_in_words(entry, words):
    with pytest.raises(VisionTasksError, match=words) as caught:
        Transforms([entry])
    assert "pydantic.dev" not in str(caught.value)
