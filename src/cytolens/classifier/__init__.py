"""The classifier: the reference network, its training and evaluation, or a network brought."""

from cytolens.classifier.augmentation import Augmentation
from cytolens.classifier.baseline import linear_baseline
from cytolens.classifier.checkpoints import from_checkpoint, to_checkpoint
from cytolens.classifier.crossvalidation import Folds, cross_validate
from cytolens.classifier.evaluation import evaluate
from cytolens.classifier.model import Classifier, predict, untrained
from cytolens.classifier.networks import CellNet, build_network
from cytolens.classifier.splitting import describe_split, split_cells
from cytolens.classifier.training import Training, TrainingSettings, train
from cytolens.classifier.wrapping import load_module, wrap

__all__ = [
    "Augmentation",
    "CellNet",
    "Classifier",
    "Folds",
    "Training",
    "TrainingSettings",
    "build_network",
    "cross_validate",
    "describe_split",
    "evaluate",
    "from_checkpoint",
    "linear_baseline",
    "load_module",
    "predict",
    "split_cells",
    "to_checkpoint",
    "train",
    "untrained",
    "wrap",
]
