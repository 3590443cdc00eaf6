"""xplique 2.0.2 on TensorFlow (arguments: see `timing`); it has no rotation."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import timing
from safetensors.numpy import load_file
from xplique.features_visualizations import Objective, optimize
from xplique.features_visualizations import transformations as views


def prepare(task: str, folder: Path, options: dict[str, str]) -> timing.Make:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    weights = load_file(folder / f"{task}.safetensors")
    size, network = {"vgg": (48, _vgg), "resnet": (224, _resnet)}[task]
    model, place = network(weights, size)
    rate = float(options.get("rate", 0.05))
    reach = size // 16
    transforms = views.compose_transformations(
        [views.pad(reach), views.random_jitter(2 * reach), views.random_scale((0.95, 1.05))]
    )

    def make(channels: list[int], steps: int) -> np.ndarray:
        images, _ = optimize(
            Objective.channel(model, place, channels),
            optimizer=keras.optimizers.Adam(rate),
            nb_steps=steps,
            custom_shape=None,
            transformations=transforms,
        )
        return images[-1].numpy().transpose(0, 3, 1, 2)

    return make


def _conv(x: object, weights: dict[str, np.ndarray], name: str, *, stride: int = 1) -> object:
    """Convolution and norm ``name`` of the PyTorch network."""
    kernel = weights[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
    side = kernel.shape[0]
    if stride == 1:
        conv = keras.layers.Conv2D(kernel.shape[-1], side, padding="same", use_bias=False)
    else:  # "same" pads strided convolutions unevenly
        x = keras.layers.ZeroPadding2D(side // 2)(x) if side > 1 else x
        conv = keras.layers.Conv2D(kernel.shape[-1], side, strides=stride, use_bias=False)
    norm = keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}.norm".replace(".", "_"))
    x = norm(conv(x))
    conv.set_weights([kernel])
    norm.set_weights(
        [
            weights[f"{name}.norm.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
    )
    return x


def _vgg(weights: dict[str, np.ndarray], size: int) -> tuple[keras.Model, str]:
    image = x = keras.Input((size, size, 1))
    for index in range(1, 9):
        x = keras.layers.ReLU()(_conv(x, weights, f"conv{index}"))
        if index % 2 == 0:
            x = keras.layers.MaxPooling2D(2)(x)
    return keras.Model(image, x), "conv4_norm"


def _resnet(weights: dict[str, np.ndarray], size: int) -> tuple[keras.Model, str]:
    image = keras.Input((size, size, 1))
    x = keras.layers.ReLU()(_conv(image, weights, "stem", stride=2))
    x = keras.layers.MaxPooling2D(3, 2)(keras.layers.ZeroPadding2D(1)(x))  # after ReLU: 0 is least
    for stage in range(1, 5):
        for index in range(2):
            name, stride = f"stage{stage}_{index}", 2 if stage > 1 and index == 0 else 1
            inner = keras.layers.ReLU()(_conv(x, weights, f"{name}.first", stride=stride))
            inner = _conv(inner, weights, f"{name}.second")
            short = f"{name}.short.conv.weight" in weights
            x = _conv(x, weights, f"{name}.short", stride=stride) if short else x
            x = keras.layers.ReLU()(keras.layers.Add()([inner, x]))
    return keras.Model(image, x), "stage3_0_second_norm"


timing.run(prepare)
