import pytest

from cytolens.errors import MissingExtra, SettingError, choose

CHANNELS = ("brightfield_Ch3", "DNA_PI_fluorescence_Ch4", "darkfield_SSC_Ch6")


@pytest.mark.parametrize("name", ["DNA", "dna", "Ch4", "DNA_PI_fluorescence_Ch4"])
def test_any_unambiguous_part_of_a_name_will_do(name: str):
    assert choose("channel", name, CHANNELS) == CHANNELS[1]


def test_an_exact_name_wins_over_longer_ones():
    assert choose("class", "G1", ("G1", "G10")) == "G1"


@pytest.mark.parametrize(("name", "said"), [("Ch", "ambiguous"), ("GFP", "unknown")])
def test_other_names_are_refused_with_the_known_ones(name: str, said: str):
    with pytest.raises(SettingError, match=said) as caught:
        choose("channel", name, CHANNELS)
    assert "darkfield_SSC_Ch6" in str(caught.value)


def test_a_missing_extra_says_what_to_install():
    assert "pip install 'cytolens[umap]'" in str(MissingExtra("UMAP", "umap"))
