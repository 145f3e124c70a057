"""Box coding against torchvision's BoxCoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder

from vision_tasks.ops.box_coding import (
    MAX_LOG_SIZE,
    decode_boxes,
    decode_distances,
    encode_boxes,
    encode_distances,
)

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (2.0, 3.0, 4.0, 5.0)]


def random_boxes(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 500
    return torch.cat((corner, corner + 1 + torch.rand(n, 2, generator=generator) * 300), 1)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_encoding_equals_torchvision(weights: tuple[float, float, float, float]) -> None:
    boxes, references = random_boxes(200, 0), random_boxes(200, 1)
    expected = BoxCoder(weights).encode_single(boxes, references)
    torch.testing.assert_close(encode_boxes(boxes, references, weights), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_decoding_equals_torchvision_with_its_clamp(weights: tuple[float, float, float, float]) -> None:
    references = random_boxes(300, 2)
    deltas = torch.randn(300, 4, generator=torch.Generator().manual_seed(3)) * 2
    deltas[:50] *= 20  # far beyond the clamp
    expected = BoxCoder(weights).decode_single(deltas, references)
    torch.testing.assert_close(decode_boxes(deltas, references, weights), expected, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(decode_boxes(deltas[50:], references[50:], weights), expected[50:], rtol=1e-5, atol=1e-3)


def test_clamp_by_hand() -> None:
    box = decode_boxes(torch.tensor([[0.0, 0, 1e4, torch.inf]]), torch.tensor([[0.0, 0, 16, 16]]))[0]
    torch.testing.assert_close(box, torch.tensor([-492.0, -492, 508, 508]))
    assert pytest.approx(62.5) == torch.tensor(MAX_LOG_SIZE).exp().item()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_decoding_undoes_encoding(weights: tuple[float, float, float, float]) -> None:
    boxes, references = random_boxes(100, 4), random_boxes(100, 5)
    references[:, 2:] += 20  # so that no ratio passes the clamp
    found = decode_boxes(encode_boxes(boxes, references, weights), references, weights)
    torch.testing.assert_close(found, boxes, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (3, 5, 4)])
def test_leading_dimensions_and_zero_boxes(shape: tuple[int, ...]) -> None:
    references = torch.tensor([0.0, 0, 10, 20]).expand(shape)
    assert encode_boxes(references, references).shape == shape
    decoded = decode_boxes(torch.zeros(shape), references)
    assert decoded.shape == shape
    assert torch.equal(decoded, references)


def test_one_reference_serves_many_deltas() -> None:
    references = random_boxes(6, 6)
    deltas = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))
    found = decode_boxes(deltas, references[:, None])
    for k in range(3):
        torch.testing.assert_close(found[:, k], decode_boxes(deltas[:, k], references))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    references = torch.tensor([[0, 0, 300, 300]], dtype=dtype)
    deltas = torch.tensor([[0.1, -0.1, 0.5, 0.25]], dtype=dtype)
    found = decode_boxes(deltas, references)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, decode_boxes(deltas.float(), references.float()))
    assert encode_boxes(references, references).dtype == torch.float32
    assert encode_boxes(references, references).abs().max() == 0


def test_distances_equal_torchvision_and_come_back() -> None:
    boxes, references = random_boxes(200, 4), random_boxes(200, 5)
    coder = BoxLinearCoder(normalize_by_size=True)
    distances = encode_distances(boxes, references)
    torch.testing.assert_close(distances, coder.encode(references, boxes))
    torch.testing.assert_close(decode_distances(distances, references), coder.decode(distances, references))
    torch.testing.assert_close(decode_distances(distances, references), boxes, rtol=1e-5, atol=1e-3)
