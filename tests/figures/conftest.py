"""Makes ``made_records`` importable, here and in the tests of the report."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
