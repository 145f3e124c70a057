"""Likeness of images: the hash by its definition, the search against all with all, copies found, strangers not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from vision_tasks.data.doctor import hashes, likeness
from vision_tasks.data.doctor.image_facts import FACTS, look

RNG = np.random.default_rng(0)


def photo(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Smooth colours with some detail, as photos have; all different."""
    random = np.random.default_rng(seed)
    layers = [cv2.resize(random.normal(0, s, (n, n, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
              for n, s in ((3, 30), (6, 25), (14, 20), (40, 10))]  # fmt: skip
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


def table(pictures: list[np.ndarray], folder: Path, quality: int = 92) -> np.ndarray:
    facts = []
    for i, picture in enumerate(pictures):
        path = folder / f"{RNG.integers(1 << 40)}_{i}.jpg"
        Image.fromarray(picture).save(path, quality=quality)
        facts.append(look(path)[0])
    return np.array(facts, FACTS)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def cropped(picture: np.ndarray, share: float) -> np.ndarray:
    y, x = (int(s * share) for s in picture.shape[:2])
    return picture[y : picture.shape[0] - y, x : picture.shape[1] - x]


def barred(picture: np.ndarray) -> np.ndarray:
    """Padded to a square, as exports for YOLO are."""
    square = np.zeros((160, 160, 3), np.uint8)
    square[35:125] = cv2.resize(picture, (160, 90))
    return square


def test_a_hash_is_what_its_paper_says() -> None:
    thumbs = RNG.integers(0, 255, (20, 32, 32), np.uint8)
    waves = dctn(thumbs.astype(float), axes=(1, 2))[:, 1:9, 1:9].reshape(20, 64)
    bits = waves > np.median(waves, 1, keepdims=True)
    ours = hashes.hashes(hashes.frequencies(thumbs))
    np.testing.assert_array_equal(np.unpackbits(ours[:, None].view(np.uint8), axis=1).astype(bool), bits)


@pytest.mark.parametrize("turn", range(8))
def test_a_hash_of_a_turned_picture_needs_no_turning(turn: int) -> None:
    thumbs = RNG.integers(0, 255, (9, 32, 32), np.uint8)
    expected = hashes.hashes(hashes.frequencies(hashes.laid(thumbs, turn)))
    np.testing.assert_array_equal(hashes.hashes(hashes.frequencies(thumbs), turn), expected)


def test_turns_are_named_as_pillow_turns() -> None:
    picture = RNG.integers(0, 255, (1, 4, 4), np.uint8)
    ways = {"mirrored": Image.Transpose.FLIP_LEFT_RIGHT, "turned by 180°": Image.Transpose.ROTATE_180,
            "turned by 90°": Image.Transpose.ROTATE_270, "turned by 270°": Image.Transpose.ROTATE_90}  # fmt: skip
    for name, way in ways.items():  # Pillow counts anticlockwise
        theirs = np.asarray(Image.fromarray(picture[0]).transpose(way))
        np.testing.assert_array_equal(hashes.laid(picture, hashes.TURNS.index(name))[0], theirs)


def test_near_pairs_are_those_of_all_with_all() -> None:
    random = np.random.default_rng(3)
    values = random.integers(0, 2**64, 2500, dtype=np.uint64)
    near = values[:600].copy()
    for i in range(600):
        for bit in random.choice(64, i % 15, replace=False):
            near[i] ^= np.uint64(1) << np.uint64(bit)
    values = np.concatenate([values, near])
    for radius in (11, 5, 0):
        found = [p for pairs in hashes.near_pairs(values, values, radius, same=True) for p in zip(*pairs, strict=True)]
        bits = np.unpackbits(values[:, None].view(np.uint8), axis=1).astype(np.float32)
        distance = bits @ (1 - bits).T + (1 - bits) @ bits.T
        expected = set(zip(*np.nonzero(np.triu(distance <= radius, 1)), strict=True))
        assert set(found) == expected
        assert len(found) == len(expected) > 20


def test_of_very_many_near_ones_the_nearest_are_kept() -> None:
    index = np.array([np.uint64(i % 8) for i in range(3000)], np.uint64)  # the lowest three bits
    ((query, other),) = hashes.near_pairs(np.zeros(1, np.uint64), index)
    assert len(query) == 64
    assert (index[other] == 0).all()


def test_no_images_and_no_neighbours() -> None:
    nothing = np.zeros(0, FACTS)
    assert len(likeness.same(nothing)) == len(likeness.alike(nothing, nothing)) == 0
    assert list(hashes.near_pairs(np.zeros(0, np.uint64), np.zeros(0, np.uint64))) == []


CHANGES = {
    "compressed": lambda p: jpeg(p, 50),
    "halved": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "enlarged": lambda p: cv2.resize(p, (1000, 400)),
    "brighter": lambda p: np.clip(p * 1.1, 0, 255).astype(np.uint8),
    "darker": lambda p: (p * 0.9).astype(np.uint8),
    "grey": lambda p: cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "cut by 1 %": lambda p: cropped(p, 0.01),
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "turned": lambda p: np.rot90(p).copy(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_found_in_another_split(change: str, tmp_path: Path) -> None:
    train = [photo(i) for i in range(25)]
    pairs = likeness.alike(table(train, tmp_path), table([CHANGES[change](p) for p in train[10:]], tmp_path))
    assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(10 + i, i) for i in range(15)]
    assert not pairs.exact.any()
    expected = {"mirrored": "mirrored", "turned": "turned by 90°"}
    if change in expected:
        assert {hashes.TURNS[t] for t in pairs.turn} == {expected[change]}


def test_copies_within_a_split_are_found_but_not_mirrored_ones(tmp_path: Path) -> None:
    pictures = [photo(i) for i in range(12)]
    pictures += [jpeg(pictures[3], 50), pictures[5][:, ::-1], pictures[7]]
    pairs = likeness.same(table(pictures, tmp_path))
    assert {(a, b): e for a, b, e in zip(pairs.first, pairs.second, pairs.exact, strict=True)} == {
        (3, 12): False,
        (7, 14): True,
    }
    group = likeness.groups(pairs, len(pictures))
    assert group[3] == group[12] != group[7] == group[14]


def test_different_images_that_share_most_of_their_picture_are_not_alike(tmp_path: Path) -> None:
    """White fields, a vignette that all have, bars: what all images of a microscope or an export have in common."""
    white = [np.clip(235 + RNG.normal(0, 2, (60, 80, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    y, x = np.mgrid[-1:1:96j, -1:1:128j]
    vignette = 230 - 90 * (x**2 + y**2)
    cells = []
    for _ in range(20):
        field = vignette.copy()
        for cx, cy in RNG.uniform((8, 8), (120, 88), (9, 2)):
            cv2.circle(field, (int(cx), int(cy)), 6, 90, -1)
        cells.append(np.repeat(field.astype(np.uint8)[..., None], 3, 2))
    for pictures in (white, cells, [barred(photo(i)) for i in range(40)]):
        facts = table(pictures, tmp_path)
        other = facts[1::2]
        assert len(likeness.same(facts)) == 0
        pairs = likeness.alike(facts[::2], other)
        assert len(pairs) == 0


def test_plain_images_are_compared_by_their_bytes_alone(tmp_path: Path) -> None:
    plain = [np.full((40, 40, 3), v, np.uint8) for v in (250, 250, 10, 251)]
    pairs = likeness.same(table(plain, tmp_path))
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.exact.tolist()) == ([0], [1], [True])


def test_a_hash_alone_decides_nothing(tmp_path: Path) -> None:
    """A template that all have fills the left half and the hash; what is different is small, on the right."""
    template = photo(1).astype(np.float32)
    template[:, 80:] = 128
    pictures = []
    for i in range(12):
        picture = template.copy()
        picture[:, 80:] += (photo(50 + i)[:, 80:].astype(np.float32) - 128) / 5
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    facts = table(pictures, tmp_path)
    values = hashes.hashes(hashes.frequencies(facts["thumb"]))
    assert sum(len(q) for q, _ in hashes.near_pairs(values, values, same=True)) > 20
    assert len(likeness.same(facts)) == len(likeness.alike(facts[::2], facts[1::2])) == 0


def test_blank_scans_are_not_alike_for_the_scanners_pattern(tmp_path: Path) -> None:
    pattern = cv2.resize(RNG.normal(0, 0.7, (12, 12, 1)), (120, 120), interpolation=cv2.INTER_NEAREST)[..., None]
    scans = [np.repeat((v + pattern).round(), 3, 2).clip(0, 255).astype(np.uint8) for v in (240, 241, 243, 238)]
    facts = table(scans, tmp_path, quality=100)
    assert (facts["thumb"].std((1, 2)) > 0.3).all()
    assert likeness.is_plain(facts["thumb"]).all()
    assert len(likeness.same(facts)) == len(likeness.alike(facts[:2], facts[2:])) == 0


def test_correlation_is_numpys(tmp_path: Path) -> None:
    one, other = RNG.integers(0, 255, (2, 6, 32, 32), np.uint8)
    whole, quarter = likeness.likeness(one, other)
    a, b = (np.stack([t - cv2.GaussianBlur(t, (193, 193), 4, borderType=cv2.BORDER_REPLICATE)
                      for t in p.astype(np.float64)]) for p in (one, other))  # fmt: skip
    theirs = [(u * v).sum() / np.sqrt((u * u).sum() * (v * v).sum()) for u, v in zip(a, b, strict=True)]
    np.testing.assert_allclose(whole, theirs, atol=2e-3)
    parts = [
        sorted((u[y : y + 8, x : x + 8] * v[y : y + 8, x : x + 8]).sum()
               / np.sqrt((u[y : y + 8, x : x + 8] ** 2).sum() * (v[y : y + 8, x : x + 8] ** 2).sum())
               for y in range(0, 32, 8) for x in range(0, 32, 8))
        for u, v in zip(a, b, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(quarter, [np.mean(p[:4]) for p in parts], atol=5e-3)


@pytest.mark.slow
def test_real_sets_of_one_microscope_and_of_photos(real_data: Path) -> None:
    """Of all pairs only those are alike that people see to be so: each was looked at."""

    def facts(*patterns: str) -> tuple[list[str], np.ndarray]:
        paths = sorted(p for pattern in patterns for p in real_data.glob(pattern))
        return [p.name for p in paths], np.array([look(p)[0] for p in paths], FACTS)

    names, bccd = facts("bccd_voc/JPEGImages/*.jpg")
    pairs = likeness.same(bccd)
    assert [(names[a], names[b]) for a, b in zip(pairs.first, pairs.second, strict=True)] == [
        ("BloodImage_00037.jpg", "BloodImage_00038.jpg")
    ]
    train, (names, test) = facts("bloodcells_coco/train/*.jpg"), facts("bloodcells_coco/test/*.jpg")
    pairs = likeness.alike(train[1], test)
    assert {train[0][i].split("_")[0] for i in pairs.first} == {"image-86"}
    assert {names[i].split("_")[0] for i in pairs.second} == {"image-80"}
    assert {hashes.TURNS[t] for t in pairs.turn} == {"mirrored"}
    for one, other in (("dsb2018_nuclei/stage1_train/*/images/*.png", "bloodcells_coco/valid/*.jpg"),
                       ("coco_mini/val2017/*.jpg", "balloon_coco/val2017/*.jpg")):  # fmt: skip
        first, second = facts(one)[1], facts(other)[1]
        assert (
            len(likeness.same(first)) == len(likeness.alike(first, second)) == len(likeness.alike(train[1], first)) == 0
        )
