"""Trial: are edits by a small conditioned denoiser better than those that pairs are made with?

python benchmarks/denoiser.py [--kinds granule rim] [--seconds 200]

A U-Net learns to take Gaussian noise off the training cells, given the network's pooled activations
at its pre-softmax layer (after Karras et al. 2022, arXiv:2206.00364, and Preechakul et al. 2022,
arXiv:2111.15640, diffusion autoencoders). A held-out cell is brought to noise along the flow of
its own activations and back along that of activations moved to the goal, as they go with the
target over training cells. Planted twins are the truth, as in planted_twins.py, beside whose ways
the edits are measured, on the same cells, network and judges.
"""

import argparse
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from cytolens.activations.layers import find_layers
from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.contrast.judging import read_target, train_judges
from cytolens.features.contrast.matching import goals_of
from cytolens.features.contrast.subject import prepare_subject
from cytolens.features.natural import answers_at
from cytolens.features.priors import fit_prior
from cytolens.properties.measurement import measure_cells
from cytolens.simulation.simulate import Plant
from cytolens.validation.planting import plant_pairs
from cytolens.validation.twins import EDITED, against_twins, edit_planted

WIDTH = 16
BATCH = 16
LOWEST, HIGHEST = 0.02, 2.0  # s.d. of the noise, in s.d. of the cells
STEPS = 12  # up, and as many down


class Block(nn.Module):
    """Two convolutions; what is given scales and shifts the channels between them."""

    def __init__(self, before: int, after: int, given: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(n, after, 3, padding=1) for n in (before, after))
        self.norm = nn.GroupNorm(4, after)
        self.way = nn.Conv2d(before, after, 1)
        self.given = nn.Linear(given, 2 * after)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """Of images (N, C, H, W) and what is given (N, G)."""
        scale, shift = self.given(given)[..., None, None].chunk(2, 1)
        inner = functional.silu(self.norm(self.first(x)) * (1 + scale) + shift)
        return self.way(x) + self.second(inner)


class Denoiser(nn.Module):
    """The clean image from a noisy one (N, 1, H, W), its s.d. (N,) and activations (N, F)."""

    def __init__(self, activations: int) -> None:
        super().__init__()
        w, g = WIDTH, 64
        self.given = nn.Sequential(nn.Linear(activations + 8, g), nn.SiLU(), nn.Linear(g, g))
        self.down = nn.ModuleList([Block(1, w, g), Block(w, 2 * w, g), Block(2 * w, 3 * w, g)])
        self.up = nn.ModuleList([Block(5 * w, 2 * w, g), Block(3 * w, w, g)])
        self.last = nn.Conv2d(w, 1, 1)

    def forward(self, noisy: Tensor, deviation: Tensor, activations: Tensor) -> Tensor:
        """The expected clean image, (N, 1, H, W)."""
        s = deviation[:, None, None, None]
        waves = deviation.log()[:, None] * torch.tensor([0.5, 1, 2, 4])
        given = self.given(torch.cat([waves.sin(), waves.cos(), activations], 1))
        x = noisy / (1 + s**2).sqrt()
        kept: list[Tensor] = []
        for place, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if place else x, given)
            kept.append(x)
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2), beside], 1), given)
        return noisy / (1 + s**2) + self.last(x) * s / (1 + s**2).sqrt()


def learn(crops: Tensor, activations: Tensor, seconds: float) -> tuple[Denoiser, int]:
    """Train for so many CPU seconds; the denoiser, and the steps taken."""
    torch.manual_seed(0)
    model = Denoiser(activations.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    began, steps = time.process_time(), 0
    span = np.log(HIGHEST / LOWEST)
    while (used := (time.process_time() - began) / seconds) < 1:
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, steps / 50) * (1 - used)
        rows = torch.randint(len(crops), (BATCH,))
        turn = int(torch.randint(4, ()))
        clean = torch.rot90(crops[rows], turn, (2, 3))
        clean = clean.flip(3) if torch.rand(()) < 0.5 else clean
        deviation = LOWEST * torch.exp(torch.rand(BATCH) * span)
        s = deviation[:, None, None, None]
        found = model(clean + s * torch.randn_like(clean), deviation, activations[rows])
        loss = ((found - clean) ** 2 * (1 + s**2) / s**2).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        steps += 1
    return model.eval(), steps


@torch.no_grad()
def flow(model: Denoiser, start: Tensor, given: Tensor, other: Tensor, high: float) -> Tensor:
    """To noise of s.d. ``high`` with the activations ``given``, and back with ``other``."""
    levels = torch.logspace(np.log10(LOWEST), np.log10(high), STEPS + 1)
    x = start
    for way, toward in ((levels, given), (levels.flip(0), other)):
        for now, then in pairwise(way):
            clean = model(x, now.expand(len(x)), toward)
            x = x + (x - clean) / now * (then - now)
    return x


def trial(kind: str, seconds: float) -> list[str]:
    seed, n, epochs = 0, 500, 16
    pairs = plant_pairs(n, Plant(kind=kind), rng=seed)
    cells, split = pairs.cells, pairs.split
    settings = TrainingSettings(epochs=epochs, patience=epochs)
    model = train(cells, split=split, settings=settings, rng=seed).model
    layers = find_layers(model.network, model.input_shape)
    prior = fit_prior(cells.subset(split.train), n_cells=1000, rng=seed)
    known = split.train[prior.rows]
    asked = np.sort(np.concatenate([split.validation, split.test]))
    subject = prepare_subject(
        model, layers[-1:], cells,
        prior=prior, known=known, held_out=asked, properties=measure_cells(cells)[0], rng=seed,
    )  # fmt: skip
    judges = train_judges(
        cells, split, known=prior.crops, held_out=subject.asked, epochs=epochs, seed=seed
    )
    deep, last = layers[-2], layers[-1]

    def answers(crops: Any) -> tuple[Any, Any]:
        found = answers_at(model.network, (deep, last), crops).score
        logits = found[last.name].astype(np.float64)
        return found[deep.name], logits[:, 1] - logits[:, 0]

    inner, margins = answers(prior.crops)
    centre, spread = inner.mean(0), inner.std(0) + 1e-6
    along = ((inner - centre) * (margins - margins.mean())[:, None]).mean(0) / margins.var()
    middle, scale = float(prior.crops.mean()), float(prior.crops.std())

    def given(values: Any) -> Tensor:
        return torch.from_numpy(((values - centre) / spread).astype(np.float32))

    denoiser, steps = learn(torch.from_numpy((prior.crops - middle) / scale), given(inner), seconds)
    planted = pairs.planted()
    start, twin = cells.read(planted), cells.read(pairs.plain_of(planted))
    used = (answers(start)[1] > 0) & (answers(twin)[1] < 0)
    planted, start, twin = (some[used][:EDITED] for some in (planted, start, twin))
    near = np.stack([ndimage.binary_dilation(m, iterations=2) for m in pairs.masks[planted % n]])
    scores = answers(subject.crops)[1]
    readings = [read_target(judge, subject.asked, margins, scores) for judge in judges]
    own, before = answers(start)
    goals = np.maximum(goals_of(margins)[0], answers(twin)[1])
    found = edit_planted(pairs, planted, model.network, subject, margins, readings, seed)
    for high in (0.3, 0.8, HIGHEST):
        for more in (1, 3):  # times the way to the goal
            other = own + more * (goals - before)[:, None] * along
            x = torch.from_numpy((start - middle) / scale)
            moved, kept = (flow(denoiser, x, given(own), given(g), high) for g in (other, own))
            made = start + (moved - kept).numpy() * scale  # what the way there and back loses stays
            low, top = prior.value_range.T[..., None, None]
            made = np.clip(made, low, top).astype(np.float32)
            found[f"denoiser, noise {high:g}, {more} × the way"] = against_twins(
                start, twin, made, near, lambda crops: answers(crops)[1], readings
            )
    lines = [f"| | {steps} steps of training in {seconds:.0f} CPU s | | | | | | |"]
    for way, one in found.items():
        columns = (one.cosine, one.inside, one.size, one.own, *one.judged.T)
        numbers = " | ".join(f"{np.median(column):.2f}" for column in columns)
        lines.append(f"| {kind} | {way} | {numbers} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=["granule", "rim"])
    parser.add_argument("--seconds", type=float, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| plant | way | cosine | inside | L1 | network | chooser | judge |\n" + "|---" * 8 + "|")
    for kind in arguments.kinds:
        print("\n".join(trial(kind, arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
