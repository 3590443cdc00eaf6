"""The first stages of a study: its cells, a network that tells them apart, and how well it does."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.baseline import linear_baseline
from cytolens.classifier.checkpoints import to_checkpoint
from cytolens.classifier.crossvalidation import cross_validate
from cytolens.classifier.evaluation import evaluate
from cytolens.classifier.model import Classifier, predict
from cytolens.classifier.splitting import split_cells
from cytolens.classifier.training import TrainingSettings, train
from cytolens.classifier.wrapping import wrap_for
from cytolens.errors import SettingError
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells, Progress, Split
from cytolens.store.run_folder import RunFolder
from cytolens.study.settings import CELLS, StudySettings


def store_cells(folder: RunFolder, data: Path, chosen: StudySettings, progress: Progress) -> None:
    """Read, check and prepare the crops; keep them, or an even draw of them, in the run folder."""
    options = chosen.part(CELLS)
    limit = options.pop("limit")
    cells = read_cells(data, progress=progress, **options)
    if limit is not None and limit < len(cells):
        drawn = f"{limit} of these {len(cells)} cells were drawn, evenly from the classes"
        cells = cells.subset(_evenly(cells.labels, limit, chosen.seed))
        cells = replace(cells, remarks=(*cells.remarks, drawn))
    folder.write_cells(cells, progress)


def learn(
    folder: RunFolder, cells: Cells, chosen: StudySettings, *, own: Any, progress: Progress
) -> None:
    """Train the reference network, or wrap the user's ``own``; keep it with split and history."""
    if own is not None:
        model = wrap_for(own, cells)
        split, history = split_cells(cells, rng=chosen.seed), ()
    else:
        made = train(
            cells,
            settings=_training(chosen),
            rng=chosen.seed,
            device=chosen.device,
            progress=progress,
        )
        model, split, history = made.model, made.split, made.history
    folder.write_checkpoint(to_checkpoint(model))
    folder.write_result("training", {"split": split, "history": history})


def judge(
    model: Classifier, cells: Cells, split: Split, chosen: StudySettings, progress: Progress
) -> dict[str, Any]:
    """Predictions for all cells; measures on the test cells, and of a linear baseline there."""
    probabilities = predict(model, cells, batch_size=chosen.batch_size, device=chosen.device)
    progress(1, 3, "evaluating")
    test = split.test
    labels = cells.labels[test]
    groups = None if cells.groups is None else cells.groups[test]
    measured = evaluate(probabilities[test], labels, groups=groups, rng=chosen.seed)
    progress(2, 3, "linear baseline")
    linear = linear_baseline(cells, split, rng=chosen.seed)
    baseline = evaluate(linear, labels, groups=groups, rng=chosen.seed)
    return {"probabilities": probabilities, "test": measured, "baseline": baseline}


def judge_folds(cells: Cells, chosen: StudySettings, progress: Progress) -> dict[str, Any]:
    """A network per held-out group or fold: names, evaluations, mean measures."""
    asked = str(chosen.folds)
    folds = cross_validate(
        cells,
        folds="group" if asked == "group" else _whole("--folds", asked),
        settings=_training(chosen),
        rng=chosen.seed,
        device=chosen.device,
        progress=progress,
    )
    return {
        "names": folds.names,
        "evaluations": folds.evaluations,
        "measures": dict(folds.measures),
    }


def weights_hash(module: Any) -> str:
    """What tells one network from another: its structure and its weights."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def _training(chosen: StudySettings) -> TrainingSettings:
    return TrainingSettings() if chosen.epochs is None else TrainingSettings(epochs=chosen.epochs)


def _evenly(labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """At most ``limit`` cells, as evenly from the classes as their numbers allow."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # of a cell within its class, in random order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((order, rank))[:limit])


def _whole(flag: str, text: str) -> int:
    if not text.isdigit() or not 2 <= int(text) <= 100:
        raise SettingError(f"{flag} '{text}': give 'group' or a whole number from 2 to 100")
    return int(text)
