"""Edits against their planted twins: known answers."""

import numpy as np
import pytest

from cytolens.validation.twins import Recovered, Twins, against_twins


class Reading:
    """A judge that sees the brightness of one corner."""

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        return crops[:, 0, :3, :3].sum((1, 2))


def test_the_truth_recovers_everything_and_a_change_elsewhere_nothing() -> None:
    start = np.random.default_rng(0).random((6, 1, 12, 12)).astype(np.float32)
    twin, other, near = start.copy(), start.copy(), np.zeros((6, 12, 12), bool)
    twin[:, :, :3, :3] -= 0.5
    other[:, :, 6:, 6:] += 0.25
    near[:, :3, :3] = True
    readings = [Reading(), Reading()]
    found = against_twins(start, twin, twin, near, Reading(), readings)
    for values in (found.cosine, found.inside, found.size, found.own, found.judged):
        assert values == pytest.approx(1, abs=1e-5)
    elsewhere = against_twins(start, twin, other, near, Reading(), readings)
    assert elsewhere.cosine == pytest.approx(0, abs=1e-6)
    assert elsewhere.size == pytest.approx(2, abs=1e-5)
    for values in (elsewhere.inside, elsewhere.own, elsewhere.judged):
        assert values == pytest.approx(0, abs=1e-6)


def test_named_first_is_what_the_plant_shifts_most_and_in_the_same_direction() -> None:
    truth = {"area": 1.0, "focus": -0.8, "lobes": 0.1}
    ones = np.ones(5)
    way = {"sparse edit": Recovered(ones, ones, ones, ones, np.ones((5, 2)))}

    def of(named: dict[str, float]) -> Twins:
        return Twins(way, "sparse edit", 0.9, truth, named)

    right, near, wrong = of({"area": 2.0, "focus": -1}), of({"focus": -2.0}), of({"focus": 2.0})
    assert (right.share_of_first, near.share_of_first, wrong.share_of_first) == (1, 0.8, 0)
    assert of({}).first is None
    measures = right.measures(resamples=20, rng=0)
    assert measures["pairs_named_first"].value == 1
    assert measures["pairs_transfer"].value == 1
    assert near.measures(resamples=20, rng=0)["pairs_named_first"].value == 0
