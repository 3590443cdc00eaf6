"""What each change to the network in `features.fast` saves, measured alone.

    python benchmarks/bench_fast_path.py [--task reference vgg] [--repeats 5] [--out FILE.md]

The same feature images are made with the change and without it, by turns, at one thread. The
table gives the median of process-CPU seconds, and two ratios: the change taken from the plain
copy ("alone": no change against this one only) and from the whole ("last": all but this one
against all). Time outside of the network (views, regularisers, optimiser) is counted. Networks have
random weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from bench_feature_images import processor
from cytolens.classifier.networks import build_network
from cytolens.features import responding
from cytolens.features.ascent import Ascent
from cytolens.features.fast import lean_copy
from cytolens.features.fast.convolutions import OwnChannel
from cytolens.features.objectives import channel, neuron
from cytolens.features.optimisation import feature_images
from peers import networks


def _contiguous() -> Any:
    """Channels-last memory turned into the usual order, wherever the ascent asks for it."""
    return patch.object(lean_copy.torch, "channels_last", torch.contiguous_format)


OFF: dict[str, Callable[[], Any]] = {
    "batch norm folded into convolutions": lambda: patch.object(
        lean_copy, "_fold", lambda *_: False
    ),
    "own channel alone at the last convolution": lambda: patch.object(
        OwnChannel, "pays", staticmethod(lambda _: False)
    ),
    "channels last in memory": _contiguous,
    "tile of a neuron": lambda: patch.object(responding, "find_tile", lambda *_: None),
}


def tasks() -> dict[str, tuple[str, Callable[[], Any]]]:
    """By name: what is made, and the call that makes it."""
    reference = build_network((1, 48, 48), 2)
    vgg, resnet = networks.vgg().eval(), networks.resnet().eval()

    def images(network: nn.Module, size: int, steps: int, **options: Any) -> Callable[[], Any]:
        options |= {"input_shape": (1, size, size), "ascent": Ascent(steps=steps), "rng": 0}
        return lambda: feature_images(network, **options)

    few = channel("stage3_0.second.norm", range(4))
    return {
        "reference": (
            "32 images of the 16 channels of conv4 of the reference network, 48 px, 16 steps",
            images(reference, 48, 16, objective=channel("conv4", 2 * list(range(16)))),
        ),
        "neuron": (
            "32 images of centre neurons of conv4 of the reference network, 48 px, 16 steps",
            images(reference, 48, 16, objective=neuron("conv4", 2 * list(range(16)))),
        ),
        "vgg": (
            "32 channels of conv4 of a VGG-like network, four times as wide, 48 px, 12 steps",
            images(vgg, 48, 12, objective=channel("conv4", range(32))),
        ),
        "resnet": (
            "4 channels of the fifth block of a ResNet-18, 224 px, 6 steps",
            images(resnet, 224, 6, objective=few),
        ),
    }


def seconds(make: Callable[[], Any], off: list[str]) -> float:
    """Process-CPU seconds of a call with some changes left out."""
    with ExitStack() as stack:
        for name in off:
            stack.enter_context(OFF[name]())
        started = time.process_time()
        make()
        return time.process_time() - started


def table(what: str, make: Callable[[], Any], repeats: int) -> Iterator[str]:
    """The lines of one task's table."""
    sets = {"all": [], "none": list(OFF)}
    for name in OFF:
        sets[f"only {name}"] = [other for other in OFF if other != name]
        sets[f"without {name}"] = [name]
    taken: dict[str, list[float]] = {name: [] for name in sets}
    make()  # warm
    for _ in range(repeats):
        for name, off in sets.items():
            taken[name].append(seconds(make, off))
    median = {name: statistics.median(times) for name, times in taken.items()}
    yield f"## {what}"
    yield ""
    yield f"All changes {median['all']:.2f} s, none {median['none']:.2f} s: "
    yield f"{median['none'] / median['all']:.2f}×. Median of {repeats}."
    yield ""
    yield "| change | alone, s | alone, × | all but it, s | last, × |"
    yield "|---|---|---|---|---|"
    for name in OFF:
        alone, rest = median[f"only {name}"], median[f"without {name}"]
        yield (
            f"| {name} | {alone:.2f} | {median['none'] / alone:.2f} "
            f"| {rest:.2f} | {rest / median['all']:.2f} |"
        )
    yield ""


def main() -> None:
    made = tasks()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", default=list(made))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    lines = [f"{processor()}, torch {torch.__version__}, one thread, process-CPU seconds", ""]
    for name in settings.task:
        for line in table(*made[name], settings.repeats):
            print(line, flush=True)
            lines.append(line)
    if settings.out:
        settings.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
