"""Every architecture of the tests as ONNX, checked against PyTorch's own answers.

python benchmarks/onnx_out.py        # needs pip install 'cytolens[onnx]'
"""

import sys
import time
from pathlib import Path

import numpy as np

from cytolens.classifier.onnx_files import onnx_bytes
from cytolens.errors import CytolensError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "activations"))
from architectures import ARCHITECTURES, SIZE, made


def main() -> None:
    crops = np.random.default_rng(0).normal(size=(5, 1, SIZE, SIZE)).astype(np.float32)
    for name in ARCHITECTURES:
        started = time.process_time()
        try:
            said = f"{len(onnx_bytes(made(name), crops)):,} bytes"
        except CytolensError as error:
            said = str(error)
        print(f"{name}: {said} ({time.process_time() - started:.1f} CPU s)", flush=True)


if __name__ == "__main__":
    main()
