import pytest

from cytolens.cli.main import one_line, spread


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("run d --classes G2 Prophase --out r", "run d --classes G2 --classes Prophase --out r"),
        ("run d --channel DNA", "run d --channel DNA"),
        ("embed r --layers a b --seed 1", "embed r --layers a --layers b --seed 1"),
        ("run d --classes a --classes b", "run d --classes a --classes b"),
        ("run d --out r", "run d --out r"),
    ],
)
def test_several_names_may_follow_one_flag(given: str, meant: str):
    assert spread(given.split()) == meant.split()


def test_a_message_is_one_line():
    assert one_line("a\n  b\t c") == "a b c"
