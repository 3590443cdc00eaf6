import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytolens.errors import InputError, SettingError
from cytolens.features.gain import gain_of, upscale
from cytolens.features.modulation import explain_cell, modulate
from cytolens.records.features import FeatureImages

SIZE = 40


def feature_images(
    maps: np.ndarray,
    *,
    channels: int = 1,
    size: int = SIZE,
    layer: str = "conv1",
    **settings: float,
) -> FeatureImages:
    count = len(maps)
    images = np.random.default_rng(0).random((count, channels, size, size), np.float32)
    return FeatureImages(
        layer=layer,
        targets=tuple(f"channel {k}" for k in range(count)),
        channels=np.arange(count),
        images=images,
        activation=np.ones(count, np.float32),
        natural=np.full((count, 3), np.nan, np.float32),
        activation_maps=maps.astype(np.float32),
        history=np.zeros((count, 2), np.float32),
        dead=np.zeros(count, bool),
        settings=dict(settings),
    )


def one_hot(cells: int, row: int, column: int) -> np.ndarray:
    maps = np.zeros((1, cells, cells), np.float32)
    maps[0, row, column] = 3
    return maps


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_only_where_the_map_is_active_does_the_image_remain(interpolation: str):
    images = feature_images(one_hot(10, 2, 7), background=0.25)
    result = modulate(images, interpolation=interpolation)
    row, column = np.unravel_index(result.gain[0].argmax(), (SIZE, SIZE))
    assert 8 <= row <= 11  # cell 2 of 10 covers pixels 8 to 11
    assert 28 <= column <= 31
    assert result.gain.max() == pytest.approx(1)
    at_peak = result.images[0, 0, row, column]
    assert at_peak == pytest.approx(images.images[0, 0, row, column])
    assert np.allclose(result.images[0, 0, 20:], 0.25)
    assert result.source == "self"
    assert result.settings["interpolation"] == interpolation


def test_a_map_of_the_image_size_multiplies_pixel_by_pixel():
    maps = np.random.default_rng(1).random((2, SIZE, SIZE), np.float32)
    images = feature_images(maps, channels=3)
    result = modulate(images, normalisation="none", background=0)
    assert np.allclose(result.images, images.images * maps[:, None], atol=1e-5)


def test_a_map_without_activation_gives_background():
    maps = -np.ones((1, 5, 5), np.float32)
    result = modulate(feature_images(maps), background=0.4)
    assert np.all(result.images == np.float32(0.4))
    assert not result.gain.any()


def test_bicubic_undershoot_never_turns_an_image_inside_out():
    maps = np.random.default_rng(2).normal(size=(6, 7, 7)).astype(np.float32)
    assert upscale(np.maximum(maps, 0), (42, 42)).min() < 0
    for normalisation in ("peak", "percentile", "none"):
        assert gain_of(maps, (42, 42), normalisation=normalisation).min() >= 0


def test_peak_and_percentile_reach_one_and_stay_there():
    maps = np.random.default_rng(3).random((4, 8, 8), np.float32) * 50
    for normalisation in ("peak", "percentile"):
        gain = gain_of(maps, (48, 48), normalisation=normalisation)
        assert np.allclose(gain.max(axis=(1, 2)), 1)
    hot = maps.copy()
    hot[:, 4, 4] = 1e4
    assert gain_of(hot, (8, 8), normalisation="percentile").mean() > 0.004
    # fewer active pixels than the percentile leaves out: the peak takes its place
    lonely = gain_of(one_hot(20, 9, 9), (20, 20), normalisation="percentile")
    assert lonely.max() == 1


def test_the_gain_does_not_depend_on_the_scale_of_the_activations():
    maps = np.random.default_rng(4).random((2, 6, 6), np.float32)
    assert np.allclose(gain_of(maps, (24, 24)), gain_of(1000 * maps, (24, 24)), atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "pixels"),
    [
        ([nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)], (10, 11)),
        ([nn.Conv2d(1, 1, 5)], (12, 25)),
        ([nn.Conv2d(1, 1, 3), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3)], (15, 15)),
        ([nn.Conv2d(1, 1, 3, padding=1), nn.AvgPool2d(4)], (20, 8)),
    ],
    ids=["padded and pooled", "unpadded", "unpadded and pooled", "pooled by four"],
)
def test_a_map_lands_on_the_pixels_it_came_from(layers: list[nn.Module], pixels: tuple[int, int]):
    model = nn.Sequential(*layers)
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1)
            nn.init.constant_(layer.bias, 0)
    image = torch.zeros(1, 1, 36, 36)
    image[0, 0, pixels[0], pixels[1]] = 1
    with torch.no_grad():
        maps = model(image)[0].numpy()
    gain = gain_of(maps, (36, 36), interpolation="bilinear")[0]
    rows, columns = np.mgrid[:36, :36]
    centre = (rows * gain).sum() / gain.sum(), (columns * gain).sum() / gain.sum()
    assert np.allclose(centre, pixels, atol=1.6)  # a map cell is up to 4 pixels wide


def test_a_given_stride_places_the_map():
    gain = gain_of(one_hot(4, 0, 0), (40, 40), interpolation="nearest", stride=4)
    rows, columns = np.nonzero(gain[0])
    assert (rows.max(), columns.max()) == (15, 15)  # cells 4 pixels apart, map centred on 19.5


def test_maps_of_a_cell_take_the_place_of_the_images_own():
    images = feature_images(one_hot(10, 2, 7))
    result = modulate(images, source="cell 7", activation_maps=one_hot(10, 7, 2))
    row, column = np.unravel_index(result.gain[0].argmax(), (SIZE, SIZE))
    assert (row // 4, column // 4) == (7, 2)
    assert result.source == "cell 7"


def test_threshold_leaves_out_what_is_weak():
    gain = gain_of(np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4), (4, 4), threshold=0.5)
    assert set(gain[gain > 0] >= 0.5) == {True}
    assert np.count_nonzero(gain) == 8


def test_background_is_one_number_or_one_per_image_channel():
    images = feature_images(np.zeros((1, 4, 4)), channels=2)
    result = modulate(images, background=(0.1, 0.9))
    assert np.allclose(result.images[0, 0], 0.1)
    assert np.allclose(result.images[0, 1], 0.9)
    with pytest.raises(SettingError, match="3 background values"):
        modulate(images, background=(0.1, 0.2, 0.3))


def test_what_cannot_be_modulated_says_why():
    images = feature_images(one_hot(10, 2, 7))
    with pytest.raises(SettingError, match="needs activation_maps"):
        modulate(images, source="cell 7")
    with pytest.raises(InputError, match="2 activation maps"):
        modulate(images, source="cell 7", activation_maps=np.zeros((2, 5, 5), np.float32))
    with pytest.raises(SettingError, match="no positions"):
        modulate(feature_images(np.ones((1, 1, 1)), layer="pre_softmax"))
    with pytest.raises(SettingError, match="bicubic, bilinear, nearest"):
        modulate(images, interpolation="cubist")
    with pytest.raises(SettingError, match="peak, percentile, none"):
        modulate(images, normalisation="softmax")
    with pytest.raises(SettingError, match="threshold"):
        modulate(images, threshold=1)
    with pytest.raises(InputError, match="not finite"):
        modulate(feature_images(np.full((1, 4, 4), np.nan)))


class GranuleDetector(nn.Module):
    """Channel 0 answers to granules, channel 1 to the cell body, channel 2 to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 7, padding=3)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(3, 2, 1)
        self.logits = nn.Linear(2, 2)
        y, x = torch.meshgrid(torch.arange(-3.0, 4), torch.arange(-3.0, 4), indexing="ij")
        centre = torch.exp(-(x**2 + y**2) / 2)
        surround = torch.exp(-(x**2 + y**2) / 12)
        blob = centre / centre.sum() - surround / surround.sum()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.conv1.weight[0, 0] = blob
            self.conv1.bias[0] = -0.06  # above what the body's rim gives
            self.conv1.weight[1, 0] = 1 / 49
            self.conv2.weight[0, 0] = 1
            self.conv2.weight[1, 1] = 1
            self.logits.weight[0, 1] = 0.1  # "plain": the body
            self.logits.weight[1, 0] = 200  # "granular": granules

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        return self.logits(self.relu(self.conv2(x)).mean((2, 3)))


def cell_with_granule(row: int, column: int, *, brightness: float = 0.8) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    body = 0.5 / (1 + np.exp(np.hypot(y - 19.5, x - 19.5) - 14))
    granule = brightness * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2)
    return (body + granule)[None].astype(np.float32)


@pytest.mark.parametrize(("row", "column"), [(12, 16), (26, 24), (18, 9)])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_saliency_points_at_the_planted_granule(row: int, column: int, layer: str):
    image = cell_with_granule(row, column)
    found = explain_cell(
        GranuleDetector(), image, layer=layer, class_names=("plain", "granular"), name="a.png"
    )
    assert found.predicted_class == "granular"
    assert found.channels.tolist() == [0]
    peak = np.unravel_index(found.saliency.argmax(), found.saliency.shape)
    assert np.allclose(peak, (row, column), atol=1.5)
    assert found.saliency.max() == pytest.approx(1)
    inside = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([row, column])[:, None, None])) < 6
    assert found.saliency[inside].sum() > 0.9 * found.saliency.sum()
    # the modulated image and the sum show the granule, and background elsewhere
    far = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([row, column])[:, None, None])) > 12
    assert found.modulated.images[0, 0][far].std() < 0.05
    assert found.total[0, row, column] > 0.8 * image[0, row, column]
    assert found.modulated.source == "a.png"


def test_without_a_granule_the_body_decides():
    image = cell_with_granule(12, 16, brightness=0)
    found = explain_cell(GranuleDetector(), image, layer="conv1", class_names=("plain", "granular"))
    assert found.predicted_class == "plain"
    assert found.channels.tolist() == [1]
    assert 0.5 <= found.probability <= 1


def test_contributions_add_up_to_the_logit_difference_of_a_network_without_constants():
    model = GranuleDetector()
    with torch.no_grad():
        model.conv1.bias.zero_()
    image = cell_with_granule(14, 20)
    found = explain_cell(model, image, layer="conv1", class_names=("plain", "granular"), top=3)
    with torch.no_grad():
        logits = model(torch.from_numpy(image)[None])[0]
        body = model.conv1(torch.from_numpy(image)[None])[0, 1].relu().mean()
    against = -0.1 * float(body)
    total = float(logits.max() - logits.min())
    assert float(found.contributions.sum()) + against == pytest.approx(total, rel=1e-4)


def test_feature_images_are_modulated_where_there_are_some():
    maps = np.ones((1, 20, 20), np.float32)
    features = feature_images(maps, background=0.3)
    image = cell_with_granule(12, 16)
    found = explain_cell(
        GranuleDetector(), image, layer="conv1", class_names=("a", "b"), features=features
    )
    assert found.modulated.targets == ("channel 0",)
    expected = 0.3 + (features.images[0, 0] - 0.3) * found.modulated.gain[0]
    assert np.allclose(found.modulated.images[0, 0], expected, atol=1e-6)
    with pytest.raises(InputError, match="'conv1' came for layer 'conv2'"):
        explain_cell(
            GranuleDetector(), image, layer="conv2", class_names=("a", "b"), features=features
        )


def test_an_activation_on_a_side_branch_is_explained_from_before_the_relu():
    class Inline(GranuleDetector):
        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.avg_pool2d(nn.functional.relu(self.conv1(x)), 2)
            return self.logits(nn.functional.relu(self.conv2(x)).mean((2, 3)))

    image = cell_with_granule(12, 16)
    options = {"layer": "conv1", "class_names": ("a", "b")}
    modules, functions = (
        explain_cell(model, image, **options) for model in (GranuleDetector(), Inline())
    )
    assert np.allclose(modules.contributions, functions.contributions, rtol=1e-5)
    assert np.allclose(modules.saliency, functions.saliency, atol=1e-5)


def test_explaining_leaves_the_network_as_it_was():
    model = GranuleDetector().train()
    explain_cell(model, cell_with_granule(12, 16), layer="conv1", class_names=("a", "b"))
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert model.relu.inplace


def test_what_cannot_be_explained_says_why():
    image = cell_with_granule(12, 16)
    with pytest.raises(SettingError, match="no positions"):
        explain_cell(GranuleDetector(), image, layer="pre_softmax", class_names=("a", "b"))
    with pytest.raises(InputError, match="3 class names"):
        explain_cell(GranuleDetector(), image, layer="conv1", class_names=("a", "b", "c"))
    with pytest.raises(InputError, match="channel, y, x"):
        explain_cell(GranuleDetector(), image[0], layer="conv1", class_names=("a", "b"))


def test_the_papers_product_is_black_where_the_gain_is_zero_whatever_the_background():
    images = feature_images(one_hot(10, 7, 2))
    blend, product = (modulate(images, background=0.4, form=form) for form in ("blend", "product"))
    nothing = blend.gain == 0
    assert nothing.any()
    assert np.all(product.images[:, 0][nothing] == 0)
    assert np.allclose(blend.images[:, 0][nothing], 0.4)
    assert product.settings["form"] == "product"
    with pytest.raises(SettingError, match="blend"):
        modulate(images, form="cubist")
