"""The tests of the store use the records that those of the figures are made with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "figures"))
