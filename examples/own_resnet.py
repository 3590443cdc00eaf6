# %% [markdown]
"""
# What has my ResNet learnt?
A notebook: open it in VS Code, Spyder, or Jupyter with jupytext, or run it as it is. It starts
where you are: code of a ResNet in a file, and the checkpoint that your training has saved.
"""

# %%
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import cytolens as cl
from cytolens.store.files import write_simulation
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

N_CELLS, EPOCHS = 800, 12
SETTINGS = {"quick": True}  # a first look; {} for the whole study
FOLDER = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Stand-ins for what is yours
# Cells (here simulated), the file with the network, and a checkpoint as training scripts save
# them: nested, after `DataParallel`, with other things beside the weights.

# %%
data = write_simulation(FOLDER / "cells", cl.simulate(N_CELLS, difficulty=0.2, rng=0))
(FOLDER / "my_resnet.py").write_text(
    """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(width, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(width, channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, n_classes=2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(True))
        self.layer1 = nn.Sequential(Block(12, 12), Block(12, 12))
        self.layer2 = nn.Sequential(Block(12, 24, 2), Block(24, 24))
        self.fc = nn.Linear(24, n_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def build():
    return ResNet()
"""
)
sys.path.insert(0, str(FOLDER))
from my_resnet import ResNet  # noqa: E402  # pyright: ignore

cells = cl.read_cells(data, intensity="none")
half = cells.subset(slice(None, None, 2))
scale = 65535.0  # how this training normalised: (x / scale - mean) / std
mean, std = (float(f(half.read(slice(None)))) / scale for f in (np.mean, np.std))
torch.manual_seed(0)
network = nn.DataParallel(ResNet())
optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
labels = torch.from_numpy(half.labels)
for _ in range(EPOCHS):
    for rows, crops in half.batches(32):
        optimiser.zero_grad()
        given = network((torch.from_numpy(crops) / scale - mean) / std)
        nn.functional.cross_entropy(given, labels[rows]).backward()
        optimiser.step()
torch.save(
    {"model": network.state_dict(), "optimizer": {}, "epoch": EPOCHS}, FOLDER / "checkpoint.pt"
)
(FOLDER / "trained_on.txt").write_text("\n".join(half.names.tolist()))

# %% [markdown]
# ## 1. A model card
# On the command line: `cytolens card cells/ --model my_resnet.py:build --weights checkpoint.pt
# --out card.json`. It drafts the card and says what is left to fill in: here the normalisation.

# %%
card = FOLDER / "card.json"
card.write_text(
    json.dumps(
        {
            "model": "my_resnet.py:build",
            "weights": "checkpoint.pt",
            "class_names": list(cells.class_names),
            "size": int(cells.shape[1]),
            "normalisation": {"scale": scale, "mean": [mean], "std": [std]},
        }
    )
)

# %% [markdown]
# ## 2. Which layers are looked at
# One for each depth, under your own names; what cannot be looked at is in
# `study["unseen_layers"]`. (On the command line: `cytolens layers RUN`.) The card names code of
# yours, so it is trusted explicitly.

# %%
trained_on = str(FOLDER / "trained_on.txt")
settings = StudySettings(model=str(card), trained_on=trained_on, **SETTINGS)
study = Study(FOLDER / "run", data, settings, trust_model=True)
for layer in study["layers"]:
    print(layer.depth, layer.name, layer.kind, layer.shape, layer.receptive_field)
print("not looked at:", study["unseen_layers"])

# %% [markdown]
# ## 3. How well it does, and from which depth on classes come apart
# On cells that it was not trained on: `trained_on` says which those are.

# %%
print(study["evaluation"].test.measures["balanced_accuracy"])
depth = study["separation"]
for name, measures in depth.items():
    print(name, measures.get("probe_accuracy"))
cl.plot_separation(depth, study["layers"]).savefig(FOLDER / "separation.png")

# %% [markdown]
# ## 4. What its channels respond to
# Feature images of a block, and the same modulated so that only what matters remains.

# %%
images = study["features"].of("layer2.0")
cl.plot_feature_images(images).savefig(FOLDER / "feature_images.png")
cl.plot_feature_images(cl.modulate(images)).savefig(FOLDER / "modulated.png")

# %% [markdown]
# ## 5. The report, to send to a colleague
# `cytolens explore RUN` opens the same run in the browser.

# %%
print(study["report"])
