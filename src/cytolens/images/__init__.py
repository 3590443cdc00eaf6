"""Cells in and cells made: readers, preparation, the simulator. No torch."""

from cytolens.images.arrays import cells_from_arrays
from cytolens.images.new_cells import read_alike
from cytolens.images.optics import Optics
from cytolens.images.preparation import pad_or_crop, prepare, prepared_background
from cytolens.images.reading import read_cells
from cytolens.images.simulation import Plant, simulate
from cytolens.images.sources import ArrayImages, CropImages

__all__ = [
    "ArrayImages",
    "CropImages",
    "Optics",
    "Plant",
    "cells_from_arrays",
    "pad_or_crop",
    "prepare",
    "prepared_background",
    "read_alike",
    "read_cells",
    "simulate",
]
