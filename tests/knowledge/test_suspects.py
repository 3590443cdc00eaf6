"""Flipped labels come first, odd cells get their reason, and nothing breaks on little."""

import numpy as np
import pytest

from cytolens.errors import InputError
from cytolens.knowledge.oddness import find_odd
from cytolens.knowledge.suspects import find_suspects


def classes(n: int = 500, *, apart: float = 4.0, k: int = 2, seed: int = 0):
    """Features at two depths, of which the second knows the class; true labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    deep = rng.normal(size=(n, 6)) + apart * np.eye(k, 6)[truth]
    shallow = rng.normal(size=(n, 4))
    return {"shallow": shallow.astype(np.float32), "deep": deep.astype(np.float32)}, truth


@pytest.mark.parametrize("k", [2, 4])
def test_flipped_labels_are_at_the_top_of_the_list(k: int) -> None:
    features, truth = classes(k=k)
    flipped = np.random.default_rng(1).choice(500, 10, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + 1) % k
    found = find_suspects(features, labels, rng=0)
    assert np.isin(flipped, found.labels[:20]).mean() >= 0.9
    first = np.isin(found.labels[:10], flipped)
    assert (found.suggested[:10][first] == truth[found.labels[:10][first]]).all()
    assert (np.diff(found.score) <= 0).all()
    assert set(found.votes) == {
        "probe at shallow", "neighbours at shallow", "probe at deep", "neighbours at deep"
    }  # fmt: skip


def test_what_the_network_was_trained_on_has_no_vote_and_the_rest_has() -> None:
    features, truth = classes(apart=0.0)
    sure = np.full((500, 2), 0.02)
    sure[np.arange(500), truth] = 0.98
    labels = truth.copy()
    labels[[3, 4]] = 1 - truth[[3, 4]]
    sure[250:] = np.nan
    found = find_suspects(features, labels, probabilities=sure, rng=0)
    assert set(found.labels[:2]) == {3, 4}
    assert found.votes["network"][0] < 0.1


def test_cells_are_named_by_their_place_among_all() -> None:
    features, truth = classes(100)
    labels = truth.copy()
    labels[7] = 1 - truth[7]
    found = find_suspects(features, labels, judged=np.arange(100) * 3 + 1, rng=0)
    assert found.labels[0] == 22


def test_labels_without_likes_one_class_and_few_cells_give_sensible_answers() -> None:
    rng = np.random.default_rng(0)
    alone = find_suspects({"a": rng.normal(size=(50, 3))}, np.zeros(50, int), rng=0)
    assert len(alone.labels) == 0
    few = find_suspects({"a": rng.normal(size=(4, 3))}, np.array([0, 1, 0, 1]), rng=0)
    assert len(few.odd) == 0
    features, truth = classes(200)
    rare = np.where(np.arange(200) < 3, 2, truth)
    assert np.isfinite(find_suspects(features, rare, rng=0).score).all()
    flat = {"dead": np.zeros((200, 3)), "logit": truth[:, None] + 0.1 * rng.normal(size=(200, 1))}
    assert len(find_suspects(flat, truth, rng=0).labels) == 0
    with pytest.raises(InputError, match="200 cells for 199"):
        find_suspects(features, truth[:-1])


def measured(n: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    area = np.exp(6 + 0.2 * labels + 0.1 * rng.normal(size=n))
    light = np.exp(11 + 0.15 * rng.normal(size=n))
    properties = {"area": area, "total_brightness": light}
    coarse = 1e-3 * light**2 * np.exp(0.05 * rng.normal(size=n))
    checks = {
        "separability": rng.uniform(0.85, 0.95, n),
        "contact": np.zeros(n),
        "radius": 0.9 * np.sqrt(area / np.pi),
        "second_radius": np.abs(rng.normal(0, 0.3, n)),
        "all_parts": area.copy(),
        "faint_area": 1.1 * area,
        "speck": 1.2 * area,
        "strength": rng.uniform(0.8, 1.2, n),
        "height": rng.uniform(1.2, 1.8, n),
        "coarse": coarse,
        "fine": coarse * np.exp(-2 + 0.1 * rng.normal(size=n)),
        "noise": 1e-3 * coarse,
        "peak": rng.uniform(2000, 3000, n),
        "plateau": np.full(n, 0.004),
    }
    return properties, checks, labels


def put(checks: dict[str, np.ndarray], cell: int, **values: float) -> None:
    for name, value in values.items():
        checks[name][cell] = value


def test_odd_cells_have_the_reason_that_was_planted() -> None:
    properties, checks, labels = measured()
    put(checks, 0, separability=0.63, faint_area=0, speck=4, height=0.05)
    put(checks, 1, faint_area=40, speck=45, height=0.8)
    put(checks, 2, second_radius=checks["radius"].max(), all_parts=2.2 * checks["all_parts"].max())
    put(checks, 3, fine=checks["fine"][3] / 30, coarse=checks["coarse"][3] / 3)
    put(checks, 4, peak=4095, plateau=0.2)
    put(checks, 5, contact=1.1)
    odd, reasons, score, remarks = find_odd(properties, checks, labels)
    found = dict(zip(odd.tolist(), reasons))
    assert found[0] == "empty"
    assert found[1] == "debris"
    assert found[2] == "doublet"
    assert found[3] == "out of focus"
    assert found[4] == "saturated"
    assert found[5] == "cut off"
    assert len(found) <= 7  # of 294 others
    assert (np.diff(score) <= 0).all()
    assert remarks == ()


def test_a_cell_that_is_only_dim_bright_or_large_is_not_odd() -> None:
    properties, checks, labels = measured()
    put(checks, 0, strength=0.3, height=0.4)
    put(checks, 1, strength=3.0, height=5.0)
    properties["total_brightness"][1] *= 3
    put(checks, 1, fine=9 * checks["fine"][1], coarse=9 * checks["coarse"][1])
    properties["area"][2] *= 2
    put(checks, 2, faint_area=2 * checks["faint_area"][2], all_parts=2 * checks["all_parts"][2])
    odd = find_odd(properties, checks, labels)[0]
    assert not {0, 1, 2} & set(odd.tolist())


def test_what_holds_for_more_than_a_quarter_of_the_crops_is_said_and_not_odd() -> None:
    properties, checks, labels = measured()
    checks["contact"][:100] = 1.2
    odd, reasons, _, remarks = find_odd(properties, checks, labels)
    assert "cut off" not in " ".join(reasons)
    assert "33% of the crops the cell touches much of the frame" in remarks[0]
    assert len(odd) < 5


def test_a_wrong_label_alone_makes_no_cell_odd() -> None:
    properties, checks, labels = measured()
    for name in ("faint_area", "all_parts"):
        checks[name] = np.where(labels == 1, 10, 1) * checks[name]
    before = set(find_odd(properties, checks, labels)[0].tolist())
    labels[[10, 20]] = 1 - labels[[10, 20]]
    assert set(find_odd(properties, checks, labels)[0].tolist()) <= before


def test_a_cell_far_from_all_others_is_odd_and_what_cannot_be_outlined_is_said() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 5)).astype(np.float32)
    rows[9] = 40
    properties, checks, labels = measured(200)
    checks["separability"][:] = 0.5
    properties["area"][:] = np.nan
    odd, reasons, _, remarks = find_odd(properties, checks, labels, features=rows)
    assert (odd[0], reasons[0]) == (9, "far from all others")
    assert "100%" in remarks[0]
