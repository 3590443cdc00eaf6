import subprocess
import sys

import pytest

import cytolens


def test_public_names_are_few_and_all_there():
    assert len(cytolens.__all__) <= 40
    for name in cytolens.__all__:
        assert getattr(cytolens, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        cytolens.magic  # noqa: B018


@pytest.mark.parametrize(
    "room", ["records", "images", "embedding", "store", "figures", "report", "study"]
)
def test_a_finished_run_opens_without_torch(room: str):
    code = f"import sys, cytolens.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
