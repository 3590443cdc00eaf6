"""Layer against layer, on the same cells."""

import numpy as np
import pytest

from cytolens.errors import InputError
from cytolens.separation.gains import measure_gains
from cytolens.separation.separation import measure_separation


def layers_of(
    rng: np.random.Generator, labels: np.ndarray, *shifts: float
) -> dict[str, np.ndarray]:
    noise = rng.normal(size=(len(labels), 5))
    axis = np.eye(5)[0]
    return {f"layer{i}": noise + s * labels[:, None] * axis for i, s in enumerate(shifts)}


def test_gains_are_differences_of_the_probes_that_separation_shows():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1, 2], 50)
    layers = layers_of(rng, labels, 0.3, 1.5, 3.0)
    untrained = layers_of(rng, labels, 0.3, 0.3, 0.3)
    given = {"groups": None, "permutations": 30, "untrained": untrained, "rng": 3}
    probes = measure_separation(layers, labels, **given)
    values = [found["probe_accuracy"].value for found in probes.values()]
    before = [found["probe_accuracy"].untrained for found in probes.values()]
    gains = list(measure_gains(layers, labels, **given).values())
    np.testing.assert_allclose([g.over_first.value for g in gains], np.subtract(values, values[0]))
    np.testing.assert_allclose([g.over_previous.value for g in gains[1:]], np.diff(values))
    learnt = [g.over_untrained.value for g in gains if g.over_untrained is not None]
    np.testing.assert_allclose(learnt, np.subtract(values, before))
    assert [g.clear for g in gains] == [False, True, True]
    first = gains[0].over_first
    assert (first.value, first.low, first.high) == (0, 0, 0)


def test_a_paired_interval_is_narrower_than_the_layers_own():
    rng, labels = np.random.default_rng(1), np.repeat([0, 1], 200)
    layers = layers_of(rng, labels, 1.0, 1.2)  # the same noise: hard cells are hard for both
    gain = measure_gains(layers, labels, rng=0)["layer1"].over_first
    own = [found["probe_accuracy"] for found in measure_separation(layers, labels, rng=0).values()]
    assert gain.high - gain.low < 0.7 * sum(e.high - e.low for e in own) / 2


def test_a_layer_that_says_no_more_is_seldom_called_clear():
    labels = np.repeat([0, 1], 60)
    called = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        layers = {f"layer{i}": rng.normal(size=(120, 4)) for i in range(6)}
        gains = measure_gains(layers, labels, permutations=1, resamples=200, rng=seed)
        called += any(gain.clear for gain in gains.values())
    assert called <= 4  # 5 % of 30 is 1.5; more than 4 has a chance of 2 %


@pytest.mark.parametrize(("groups", "known"), [(2, False), (6, True)])
def test_few_groups_have_no_interval(groups: int, known: bool):
    rng, labels = np.random.default_rng(2), np.arange(240) % 2
    gain = measure_gains(
        layers_of(rng, labels, 0.2, 4.0), labels, groups=np.arange(240) // 2 % groups, rng=0
    )["layer1"]
    assert gain.over_first.known == known
    assert gain.clear == known
    assert (gain.over_first.no_interval is None) == known


def test_lengths_that_differ_are_refused():
    with pytest.raises(InputError, match="layer1"):
        measure_gains({"layer0": np.eye(4), "layer1": np.eye(5)}, [0, 0, 1, 1])
