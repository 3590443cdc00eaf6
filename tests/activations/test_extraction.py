import threading
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from made_networks import Functional, ResNetLike, cells_of, reference_like, seeded, vgg_like

from cytolens.activations.capture import capture
from cytolens.activations.extraction import extract
from cytolens.activations.layers import find_layers
from cytolens.activations.maps import capture_maps
from cytolens.activations.reduction import reduce_activations
from cytolens.classifier.wrapping import wrap
from cytolens.errors import InputError, ModelError, SettingError


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).random((23, 1, 28, 28), np.float32)


def test_every_layer_comes_out_in_depth_order_and_equals_the_network_by_hand(crops: np.ndarray):
    model = seeded(reference_like()).eval()
    features = extract(model, cells_of(crops), batch_size=7)
    assert list(features) == [x.name for x in find_layers(model, (1, 28, 28))]
    with torch.no_grad():
        images = torch.from_numpy(crops)
        second = model.conv2(model.conv1(images))
        assert np.allclose(features["conv2"], second.mean((2, 3)), atol=1e-5)
        assert np.allclose(features["logits"], model(images), atol=1e-5)
    assert np.array_equal(features["input"], crops.reshape(23, -1))
    assert features["pre_softmax"].shape == (23, 5)
    assert features["pre_softmax"].dtype == np.float32


@pytest.mark.parametrize("model", [vgg_like(), ResNetLike()], ids=["vgg", "resnet"])
def test_in_place_networks_give_the_same_features_in_any_batch_size(
    model: torch.nn.Module, crops: np.ndarray
):
    model = seeded(model)
    alone = extract(model, cells_of(crops), batch_size=1)
    together = extract(model, cells_of(crops), batch_size=23)
    for name in alone:
        assert np.allclose(alone[name], together[name], rtol=1e-3, atol=1e-4), name
    assert all((alone[x.name] >= 0).all() for x in alone.layers if x.kind == "block")


def test_a_network_that_views_its_activations_is_extracted_like_any_other(crops: np.ndarray):
    model = seeded(Functional()).eval()  # x.view() needs the usual memory layout
    features = extract(model, cells_of(crops))
    images = torch.from_numpy(crops)
    with torch.no_grad():
        assert np.allclose(features["logits"].argmax(1), model(images).argmax(1))
        assert np.allclose(features["c1"], model.c1(images).relu().mean((2, 3)), atol=1e-5)


def test_reductions_are_what_their_names_say(crops: np.ndarray):
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert reduce_activations(maps, reduction="mean").tolist() == [[5.5, 17.5]]
    assert reduce_activations(maps, reduction="max").tolist() == [[11, 23]]
    assert reduce_activations(maps, reduction="centre").tolist() == [[6, 18]]
    assert torch.equal(reduce_activations(maps, reduction="flat"), maps.reshape(1, 24))
    dense = torch.ones(3, 4)
    assert reduce_activations(dense, reduction="max") is dense
    model, cells = seeded(reference_like()), cells_of(crops)
    flat = extract(model, cells, layers=["conv4"], reduction="flat")["conv4"]
    strongest = extract(model, cells, layers=["conv4"], reduction="max")["conv4"]
    assert np.array_equal(flat.reshape(23, 6, -1).max(2), strongest)
    with pytest.raises(SettingError, match="mean, max, centre, flat"):
        extract(model, cells, reduction="median")


def test_chosen_layers_only_and_nothing_behind_them(crops: np.ndarray):
    model = seeded(reference_like())
    ran: list[int] = []
    model.logits.register_forward_hook(lambda *_: ran.append(1))
    conv1 = find_layers(model, (1, 28, 28))[1]
    ran.clear()
    features = extract(model, cells_of(crops), layers=[conv1])
    assert list(features) == ["conv1"]
    assert ran == []
    assert list(extract(model, cells_of(crops), layers=["logits", "conv2"])) == ["conv2", "logits"]


def test_the_network_runs_once_per_batch(crops: np.ndarray):
    model = seeded(reference_like())
    layers = find_layers(model, (1, 28, 28))
    ran: list[int] = []
    model.conv1.register_forward_hook(lambda m, a, out: ran.append(len(out)))
    extract(model, cells_of(crops), layers=layers, batch_size=10)
    assert ran[-3:] == [10, 10, 3]
    assert sum(ran[:-3]) <= 2  # two blank images may probe the memory layout


def test_a_sharded_zarr_is_written_shard_by_shard_in_a_thread(crops: np.ndarray, tmp_path: Any):
    written: list[tuple[str, int, int, str]] = []

    class Watched:
        def __init__(self, name: str, array: zarr.Array) -> None:
            self.name, self.array = name, array
            self.shape, self.shards = array.shape, array.shards

        def __setitem__(self, rows: slice, values: np.ndarray) -> None:
            thread = threading.current_thread().name
            written.append((self.name, rows.start, rows.stop, thread))
            self.array[rows] = values

        def __getitem__(self, rows: slice) -> Any:
            return self.array[rows]

    group = zarr.open_group(tmp_path / "a.zarr", mode="w")

    def sink(name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> Watched:
        sizes = {"chunks": (5, shape[1]), "shards": (10, shape[1])}
        return Watched(name, group.create_array(name, shape=shape, dtype=dtype, **sizes))

    model = seeded(reference_like())
    streamed = extract(model, cells_of(crops), sink=sink, batch_size=4)
    rows = [(start, stop) for name, start, stop, _ in written if name == "conv3"]
    assert rows == [(0, 10), (10, 20), (20, 23)]
    assert all(thread.startswith("write-activations") for *_, thread in written)
    kept = extract(model, cells_of(crops), batch_size=4)
    assert all(np.array_equal(streamed[name], kept[name]) for name in kept)


def test_progress_counts_cells(crops: np.ndarray):
    calls: list[tuple[int, int, str]] = []
    extract(
        seeded(reference_like()),
        cells_of(crops),
        batch_size=10,
        progress=lambda *call: calls.append(call),
    )
    assert [call[:2] for call in calls] == [(10, 23), (20, 23), (23, 23)]


def test_the_network_is_left_as_found_even_when_the_sink_fails(crops: np.ndarray):
    model = seeded(reference_like()).train()
    model.conv1.norm.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model.conv3.conv.weight
    layout = weight.stride(), weight.data_ptr()

    class Full:
        shape, shards = (23, 4), (2, 4)

        def __setitem__(self, rows: slice, values: np.ndarray) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        extract(model, cells_of(crops), layers=["conv1"], sink=lambda *_: Full(), batch_size=2)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.conv1.relu.inplace
    assert (weight.stride(), weight.data_ptr()) == layout
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not [t for t in threading.enumerate() if "activations" in t.name]


def test_numbers_that_are_not_finite_name_the_layer(crops: np.ndarray):
    model = seeded(reference_like())
    with torch.no_grad():
        model.conv3.conv.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="'conv3'"):
        extract(model, cells_of(crops))


def test_no_cells_are_refused():
    cells = cells_of(np.ones((2, 1, 28, 28))).subset(np.array([], dtype=np.int64))
    with pytest.raises(InputError, match="no cells"):
        extract(reference_like(), cells)


def test_a_classifier_is_taken_wherever_its_network_is(crops: np.ndarray):
    model = seeded(reference_like())
    logits = find_layers(model, (1, 28, 28))[-1]
    classifier = wrap(model, class_names=tuple("abcde")[: logits.channels], input_shape=(1, 28, 28))
    assert find_layers(classifier) == find_layers(model, (1, 28, 28))
    one, other = (extract(m, cells_of(crops)) for m in (classifier, model))
    assert all(np.array_equal(one[name], other[name]) for name in other)
    maps = [capture_maps(m, crops, "conv2") for m in (classifier, model)]
    assert np.array_equal(*maps)
    with capture(classifier, [logits.activation]) as values:
        model(torch.from_numpy(crops))
    assert values[logits.activation].shape == (23, logits.channels)
    with pytest.raises(SettingError, match="no input_shape came"):
        find_layers(model)
    with pytest.raises(SettingError, match="classifier takes"):
        find_layers(classifier, (1, 30, 30))
    for nothing in (None, crops, "resnet"):
        with pytest.raises(ModelError, match=r"came; give a torch nn\.Module or a Classifier"):
            extract(nothing, cells_of(crops))  # pyright: ignore
