"""A small folder laid out as BSCCMNIST is."""

import csv
import json
from pathlib import Path

import numpy as np
import zarr

CHANNELS = ("Brightfield", "DF_50", "DPC_Left")
GATES = [f"type{i}_selection_gated" for i in range(10)]


def write_bsccm(root: Path, n: int = 60, *, size: int = 28, seed: int = 0) -> np.ndarray:
    """``n`` cells, a tenth without a type; the pictures (n, C, size, size), 8 bits.

    Cell i has the type i % 10 of the ten that are gated; lymphocytes (0) are small.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    numbers = 7 * np.arange(n) + 3
    kinds = np.where(np.arange(n) % 2 == 0, 0, 1 + np.arange(n) % 9)
    down, across = np.mgrid[:size, :size] - size / 2
    crops = np.empty((n, len(CHANNELS), size, size), np.uint8)
    for i, kind in enumerate(kinds):
        inside = np.hypot(down, across) < (5 if kind == 0 else 9) + rng.normal(0, 0.3)
        crops[i] = np.clip(rng.normal(90, 4, crops.shape[1:]) + 70 * inside, 0, 255)
    channels = {"channel_names": list(CHANNELS)}
    about = {"name": "BSCCMNIST", "led_array": channels, "fluorescence": {"channel_names": ["F"]}}
    (root / "BSCCM_global_metadata.json").write_text(json.dumps(about))
    store = zarr.open_group(root / "BSCCM_images.zarr", mode="w", zarr_format=2)
    folder = "all/batch_0/slide_replicate_0"
    for number, crop in zip(numbers, crops):
        chunk = (1, size, size)
        store.create_array(f"{folder}/led_array/cell_{number}", data=crop, chunks=chunk)
        store.create_array(f"{folder}/fluor/cell_{number}", data=crop[:1], chunks=chunk)
    with (root / "BSCCM_index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["global_index", "batch", "slide_replicate", "antibodies", "data_path"])
        rows.writerows([number, 0, 0, "all", folder] for number in numbers)
    with (root / "BSCCM_surface_markers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["global_index", *GATES, "CD45_full_model_unmixed"])
        for number, kind in list(zip(numbers, kinds))[::-1]:  # in another order
            rows.writerow([number, *(kind == i for i in range(10)), kind / 10])
    return crops
