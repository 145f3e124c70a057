"""Constant-velocity Kalman filters of many boxes at once.

In the filters of SORT and of DeepSORT nothing ties one coordinate of a box to another: start, drift and measurement
have diagonal noise, and each coordinate moves by its own velocity. Seven or eight numbers with one covariance fall
apart, exactly, into four filters of two numbers, whose equations are written out here: no matrix is inverted, and one
array holds all tracks.

A state is (N, 5, 4) float64: for each of four coordinates its place, its velocity per frame, the variance of the place,
the covariance of both, the variance of the velocity. Boxes are (N, 4) corners in pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

PLACE, VELOCITY, VARIANCE, COVARIANCE, VELOCITY_VARIANCE = range(5)

CHI2_95 = 9.487729036781154
"""A measurement of four numbers lies within this squared Mahalanobis distance in 95 of 100 cases (chi-square, 4)."""


class BoxFilter(ABC):
    """What a box is measured as, and how uncertain all of that is.

    Attributes:
        scale_powers: how the four coordinates grow when the picture grows by a factor: with this power of it.
    """

    scale_powers: tuple[int, int, int, int]

    @abstractmethod
    def measure(self, boxes: np.ndarray) -> np.ndarray:
        """(N, 4) corners to (N, 4) coordinates: centre x, centre y and two of size and shape, these above 0."""

    @abstractmethod
    def corners(self, places: np.ndarray) -> np.ndarray:
        """(N, 4) coordinates to (N, 4) corners."""

    @abstractmethod
    def start_noise(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variances of places and of velocities (N, 4) at the first sight."""

    @abstractmethod
    def drift(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a frame adds to the variances of places and of velocities (N, 4)."""

    @abstractmethod
    def measurement_noise(self, places: np.ndarray) -> np.ndarray:
        """Variances of a measurement (N, 4)."""

    def start(self, boxes: np.ndarray) -> np.ndarray:
        """States of boxes (N, 4) seen for the first time, at rest."""
        state = np.zeros((len(boxes), 5, 4))
        state[:, PLACE] = self.measure(boxes)
        state[:, VARIANCE], state[:, VELOCITY_VARIANCE] = self.start_noise(state[:, PLACE])
        return state

    def boxes(self, state: np.ndarray) -> np.ndarray:
        """Corners (N, 4) where the states are."""
        return self.corners(state[:, PLACE])

    def predict(self, state: np.ndarray, step: float | np.ndarray = 1.0) -> np.ndarray:
        """States `step` frames later, a number or (N, 1).

        The noise of n frames is the sum over n predictions of one frame each, written as a polynomial in n: to predict
        two frames at once is to predict twice, and half a frame has a meaning. A size or shape that would shrink to
        nothing stops shrinking instead (SORT does so for the area).
        """
        place, velocity, variance, covariance, velocity_variance = state.swapaxes(0, 1)
        drift, velocity_drift = self.drift(place)
        vanishing = place[:, 2:] + step * velocity[:, 2:] <= 0
        if vanishing.any():
            velocity = velocity.copy()
            velocity[:, 2:][vanishing] = 0
        pairs = step * (step - 1) / 2
        later = np.empty_like(state)
        later[:, PLACE] = place + step * velocity
        later[:, VELOCITY] = velocity
        later[:, VARIANCE] = variance + step * (2 * covariance + step * velocity_variance + drift)
        later[:, VARIANCE] += pairs * (2 * step - 1) / 3 * velocity_drift
        later[:, COVARIANCE] = covariance + step * velocity_variance + pairs * velocity_drift
        later[:, VELOCITY_VARIANCE] = velocity_variance + step * velocity_drift
        return later

    def update(self, state: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """States after each has been seen at its box (N, 4)."""
        place, velocity, variance, covariance, velocity_variance = state.swapaxes(0, 1)
        surprise = self.measure(boxes) - place
        total = variance + self.measurement_noise(place)
        gain, velocity_gain = variance / total, covariance / total
        after = np.empty_like(state)
        after[:, PLACE] = place + gain * surprise
        after[:, VELOCITY] = velocity + velocity_gain * surprise
        after[:, VARIANCE] = variance - gain * variance
        after[:, COVARIANCE] = covariance - gain * covariance
        after[:, VELOCITY_VARIANCE] = velocity_variance - velocity_gain * covariance
        return after

    def distance(self, state: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance (N,) of each state's prediction to a box (N, 4); compare with `CHI2_95`."""
        place = state[:, PLACE]
        surprise = self.measure(boxes) - place
        squared: np.ndarray = (surprise**2 / (state[:, VARIANCE] + self.measurement_noise(place))).sum(axis=1)
        return squared

    def warp(self, state: np.ndarray, motion: np.ndarray) -> np.ndarray:
        """States in a picture that has moved.

        Args:
            motion: (2, 3), from pixels of the picture before to those of this one: turned, scaled and shifted.

        x and y have equal variances from the start on, so turning leaves them independent.
        """
        turn, shift = motion[:, :2], motion[:, 2]
        scale = np.sqrt(abs(np.linalg.det(turn)))
        factors = scale ** np.array(self.scale_powers)
        after = np.empty_like(state)
        after[:, VARIANCE:] = state[:, VARIANCE:] * factors**2
        after[:, :VARIANCE] = state[:, :VARIANCE] * factors
        after[:, :VARIANCE, :2] = state[:, :VARIANCE, :2] @ turn.T
        after[:, PLACE, :2] += shift
        return after


class AreaFilter(BoxFilter):
    """Centre, area and width / height, the last without a velocity: SORT (Bewley et al. 2016) and OC-SORT."""

    scale_powers = (1, 1, 2, 0)

    def measure(self, boxes: np.ndarray) -> np.ndarray:
        """Centre x, centre y, area, width / height."""
        size = boxes[:, 2:] - boxes[:, :2]
        return np.column_stack((boxes[:, :2] + size / 2, size[:, 0] * size[:, 1], size[:, 0] / size[:, 1]))

    def corners(self, places: np.ndarray) -> np.ndarray:
        """(N, 4) coordinates to corners."""
        width = np.sqrt(places[:, 2] * places[:, 3])
        half = np.column_stack((width, places[:, 2] / width)) / 2
        return np.column_stack((places[:, :2] - half, places[:, :2] + half))

    def start_noise(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """SORT's published constants."""
        return np.array([10.0, 10.0, 10.0, 10.0]), np.array([1e4, 1e4, 1e4, 0.0])

    def drift(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """SORT's published constants."""
        return np.array([1.0, 1.0, 1.0, 1.0]), np.array([1e-2, 1e-2, 1e-4, 0.0])

    def measurement_noise(self, places: np.ndarray) -> np.ndarray:
        """SORT's published constants."""
        return np.array([1.0, 1.0, 10.0, 10.0])


class HeightFilter(BoxFilter):
    """Centre, width / height, height; noise in proportion to it: DeepSORT (Wojke et al. 2017) and ByteTrack."""

    scale_powers = (1, 1, 0, 1)

    def measure(self, boxes: np.ndarray) -> np.ndarray:
        """Centre x, centre y, width / height, height."""
        size = boxes[:, 2:] - boxes[:, :2]
        return np.column_stack((boxes[:, :2] + size / 2, size[:, 0] / size[:, 1], size[:, 1]))

    def corners(self, places: np.ndarray) -> np.ndarray:
        """(N, 4) coordinates to corners."""
        half = np.column_stack((places[:, 2] * places[:, 3], places[:, 3])) / 2
        return np.column_stack((places[:, :2] - half, places[:, :2] + half))

    def start_noise(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Twice the deviation of a measurement; ten times that of the velocity."""
        return _in_heights(places, 2 / 20, 1e-2), _in_heights(places, 10 / 160, 1e-5)

    def drift(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A twentieth of the height a frame, and a 160th for the velocity."""
        return _in_heights(places, 1 / 20, 1e-2), _in_heights(places, 1 / 160, 1e-5)

    def measurement_noise(self, places: np.ndarray) -> np.ndarray:
        """A twentieth of the height; a tenth for the ratio of the sides."""
        return _in_heights(places, 1 / 20, 1e-1)


def _in_heights(places: np.ndarray, share: float, ratio: float) -> np.ndarray:
    """Variances (N, 4) where x, y and height deviate by a share of the height, the ratio of the sides by `ratio`."""
    variances = np.empty_like(places)
    variances[:, :] = (share * places[:, 3:]) ** 2
    variances[:, 2] = ratio**2
    return variances
