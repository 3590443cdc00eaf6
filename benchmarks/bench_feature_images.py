"""Feature images beside those of the peers: process-CPU seconds at one thread, and activation.

    bash benchmarks/peers/install.sh                       # once: the peers, in /tmp/peers
    python benchmarks/bench_feature_images.py [--task vgg resnet own] [--out FILE.md]

The same trained network (`peers/networks.py`), the same channels before the ReLU, the same number
of steps, each with its own views (shift, rotation where it has one, scale) and its own Fourier
parametrisation; cytolens without regularisers, as the peers have none. A peer that takes a batch
is run with all channels at once, and channel by channel for four of them, scaled up. Every run is
a process of its own and warmed up; imports and loading are not counted. A peer that is not
installed is left out.

The task "own" is cytolens alone: all channels of all layers of the reference CNN with the default
settings, and neurons with and without their tile (`features.fast.tile`).

Activation is the channel's mean before the ReLU, of the finished image as it is; z counts standard
deviations over simulated cells that the network was not trained on.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cytolens.activations.layers import find_layers
from cytolens.classifier.networks import build_network
from cytolens.features.objectives import channel, neuron
from cytolens.features.optimisation import feature_images
from peers import networks

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Run:
    """One line of the table."""

    name: str
    script: str
    options: tuple[str, ...] = ()
    single: bool = False  # channel by channel


@dataclass(frozen=True)
class Found:
    """What a run cost and gave."""

    cpu: float  # seconds for all channels
    activation: float
    z: float
    step: float  # seconds for a step of one image, without what a call costs once


RUNS = (
    Run("cytolens", "cytolens"),
    Run("torch-lucent 0.1.8, batched", "lucent"),
    Run("torch-lucent, channel by channel", "lucent", ("single=1",), single=True),
    Run("torch-dreams 4.0.0, batched", "dreams", ("rate=0.05",)),
    Run("torch-dreams, channel by channel", "dreams", ("rate=0.05", "single=1"), single=True),
    Run("Xplique 2.0.2", "xplique"),
)
QUICK = (12, 16, 20, 24, 32, 48)  # steps of the runs to quality
STEPS_OF_A_TURN = {"cytolens": 18, "lucent": 7, "dreams": 7, "xplique": 14}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TASKS = {"vgg": (256, 64), "resnet": (16, 8)}  # steps, channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=[*TASKS, "own"], default=["vgg"])
    parser.add_argument("--only", nargs="+", help="scripts to run, such as cytolens xplique")
    parser.add_argument("--weights", type=Path, default=Path("/tmp/cytolens-bench"))
    parser.add_argument("--peers", type=Path, default=Path("/tmp/peers"))
    parser.add_argument("--turns", type=int, default=0, help="short runs taking turns instead")
    parser.add_argument("--out", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if not all((settings.weights / f"{task}_cells.npy").exists() for task in TASKS):
        subprocess.run([sys.executable, PEERS / "networks.py", settings.weights], check=True)
    lines = [f"{processor()}, torch {torch.__version__}, one thread, process-CPU seconds", ""]
    for task in settings.task:
        made = own() if task == "own" else (turns if settings.turns else table)(task, settings)
        for line in made:
            print(line, flush=True)
            lines.append(line)
    if settings.out:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        settings.out.write_text("\n".join(lines) + "\n")


def table(task: str, settings: argparse.Namespace) -> Iterator[str]:
    """The lines of a task's table, as they come."""
    steps, n = TASKS[task]
    measure, peers = Measure(task, settings.weights), settings.peers
    yield f"## {task}: {n} channels of {networks.TASKS[task][2]}, {steps} steps"
    yield ""
    yield "| | CPU s | × cytolens | activation | z |"
    yield "|---|---|---|---|---|"
    done: dict[str, Found] = {}
    for run in RUNS:
        if settings.only and run.script not in settings.only:
            continue
        found = measure(run, steps, n, peers)
        if found is not None:
            done[run.name] = found
            times = found.cpu / done["cytolens"].cpu
            reached = " | " if run.single else f"{found.activation:.3f} | {found.z:.1f}"
            yield f"| {run.name} | {found.cpu:.1f} | {times:.2f} | {reached} |"
    whole = {run.name for run in RUNS if not run.single} - {"cytolens"}
    others = [found for name, found in done.items() if name in whole]
    if others:
        best = max(others, key=lambda found: found.activation)
        yield ""
        yield f"To quality; the best peer takes {best.cpu:.1f} s to {best.activation:.3f}:"
        yield ""
        yield "| cytolens, steps | CPU s | of that time | of its own activation | of the peer's |"
        yield "|---|---|---|---|---|"
        for quick in QUICK:
            found = measure(Run("cytolens", "cytolens", ("rate=0.2",)), quick, n, peers)
            assert found is not None
            own = found.activation / done["cytolens"].activation
            other = found.activation / best.activation
            time = best.cpu / found.cpu
            yield f"| {quick} | {found.cpu:.2f} | 1/{time:.1f} | {own:.1%} | {other:.1%} |"
    yield ""


def turns(task: str, settings: argparse.Namespace) -> Iterator[str]:
    """Seconds per step, short runs taking turns: other work on the machine slows all alike."""
    n, measure = TASKS[task][1], Measure(task, settings.weights)
    taken: dict[str, list[float]] = {}
    for _ in range(settings.turns):
        for run in RUNS:
            found = measure(run, STEPS_OF_A_TURN[run.script], n, settings.peers)
            if found is not None:
                taken.setdefault(run.name, []).append(found.step)
    yield f"## {task}: CPU milliseconds per step and image, {settings.turns} turns"
    yield ""
    yield "| | each turn | × cytolens, median |"
    yield "|---|---|---|"
    for name, steps in taken.items():
        each = ", ".join(f"{1e3 * step:.1f}" for step in steps)
        times = np.median([a / b for a, b in zip(steps, taken["cytolens"], strict=True)])
        yield f"| {name} | {each} | {times:.2f} |"
    yield ""


def own() -> Iterator[str]:
    """What cytolens takes for whole networks, and for neurons."""
    model, shape = build_network((1, 48, 48), 2), (1, 48, 48)
    yield "## cytolens alone: reference CNN, 1 × 48 × 48, defaults (96 steps, regularised)"
    yield ""
    yield "| | images | CPU s |"
    yield "|---|---|---|"
    total, images = 0.0, 0
    for layer in find_layers(model, shape)[1:]:
        clock = time.process_time()
        images += len(feature_images(model, layer=layer, input_shape=shape, rng=0).images)
        total += time.process_time() - clock
    yield f"| all channels of all layers | {images} | {total:.1f} |"
    model = networks.vgg().eval()
    for name, objective in (
        ("centre neurons of conv 4 of the VGG-like net", neuron("conv4", range(16))),
        ("the same without tile", neuron("conv4", range(16))),
        ("its channels", channel("conv4", range(16))),
    ):
        if "without" in name:
            objective = replace(objective, focus=replace(objective.focus, position=None))
        clock = time.process_time()
        feature_images(model, objective=objective, input_shape=shape, rng=0)
        yield f"| {name} | 16 | {time.process_time() - clock:.1f} |"
    yield ""


class Measure:
    """Runs one script on one task and judges its images with the plain network."""

    def __init__(self, task: str, weights: Path) -> None:
        self.task, self.weights = task, weights
        self.network, self.place = networks.load(task, weights), networks.TASKS[task][2]
        natural = self.activation(np.load(weights / f"{task}_cells.npy"))
        self.mean, self.deviation = natural.mean(0), natural.std(0)

    def activation(self, images: np.ndarray) -> np.ndarray:
        """Mean of every channel before the ReLU, (n, C)."""
        kept: list[torch.Tensor] = []
        handle = self.network.get_submodule(self.place).register_forward_hook(
            lambda module, args, output: kept.append(output.mean((2, 3)))
        )
        with torch.no_grad():
            for batch in torch.from_numpy(images).split(50):
                self.network(batch)
        handle.remove()
        return torch.cat(kept).numpy()

    def __call__(self, run: Run, steps: int, n: int, peers: Path) -> Found | None:
        """None where the peer is not installed."""
        python = peers / run.script / "bin" / "python"
        python = Path(sys.executable) if run.script == "cytolens" else python
        if not python.exists():
            return None
        channels = range(0, n, n // 4) if run.single else range(n)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "made"
            listed = ",".join(str(channel) for channel in channels)
            script = PEERS / f"with_{run.script}.py"
            words = [python, script, self.weights, self.task, str(steps), listed, out, *run.options]
            subprocess.run(words, check=True, capture_output=True, env=os.environ | ONE_THREAD)
            images = np.load(f"{out}.npy")
            told = json.loads(Path(f"{out}.json").read_text())
        own = self.activation(images)[np.arange(len(channels)), channels]
        z = (own - self.mean[channels]) / self.deviation[channels]
        cpu = told["cpu"] * n / len(channels)
        return Found(cpu, float(own.mean()), float(z.mean()), told["step"])


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
