"""Public data by name: where they are, under which licence, and how to cite them.

A licence is one that was read, at the place named beside it. Where it could not be, it is None,
and the data are fetched only for someone who says to have read it. What may not be used for
everything is not fetched at all.
"""

from dataclasses import dataclass

CC_BY = "CC BY 4.0"
CC0 = "CC0 1.0"


@dataclass(frozen=True)
class Remote:
    """One file on a server: its address, and what is known of its content beforehand."""

    name: str  # of the file here
    url: str
    checksum: str | None = None  # "md5:…" or "sha256:…", as its publisher gives it
    unpack: bool = False  # a ZIP or TAR archive that is unpacked beside it


@dataclass(frozen=True)
class PublicData:
    """Some public data, and what is to be known before and after they are fetched."""

    title: str
    licence: str | None
    licence_read_at: str  # or where it has to be read
    citation: str
    use: str  # the command that studies them, in their folder
    files: tuple[Remote, ...] = ()
    dryad: str = ""  # DOI of a Dryad data set, which lists its files and their checksums itself
    pattern: str = ""  # regular expression for the names of the Dryad files wanted
    refused: str = ""  # why they are not fetched, ever


_ZENODO = "https://zenodo.org/records/10519652/files"
_MEDMNIST = (
    "Yang et al. 2023, MedMNIST v2, Scientific Data 10:41, doi:10.1038/s41597-022-01721-8; made of "
    "Acevedo et al. 2020, Data in Brief 30:105474, doi:10.1016/j.dib.2020.105474"
)
_PBC = "Acevedo et al. 2020, Data in Brief 30:105474, doi:10.1016/j.dib.2020.105474"


_PBC_IMAGES = Remote(
    "PBC_dataset_normal_DIB.zip",
    "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/"
    "2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
    unpack=True,
)
_WBCATT = (
    "https://raw.githubusercontent.com/apple2373/wbcatt/"
    "ad255b80f6d56b9f72508b04466c3c4a2c95c97b/submission"
)


def _attributes(part: str, sha256: str) -> Remote:
    name = f"pbc_attr_v1_{part}.csv"
    return Remote(name, f"{_WBCATT}/{name}", f"sha256:{sha256}")


def _bloodmnist(size: int, md5: str) -> PublicData:
    name = "bloodmnist.npz" if size == 28 else f"bloodmnist_{size}.npz"
    return PublicData(
        title=f"BloodMNIST, {size} × {size} px: 17,092 stained blood cells of eight kinds",
        licence=CC_BY,
        licence_read_at="the medmnist package, info.py",
        citation=_MEDMNIST,
        use=f"cytolens run {name} --classes lymphocyte neutrophil --out study",
        files=(Remote(name, f"{_ZENODO}/{name}?download=1", f"md5:{md5}"),),
    )


CATALOGUE: dict[str, PublicData] = {
    "bloodmnist": _bloodmnist(28, "7053d0359d879ad8a5505303e11de1dc"),
    "bloodmnist64": _bloodmnist(64, "2b94928a2ae4916078ca51e05b6b800b"),
    "bloodmnist128": _bloodmnist(128, "adace1e0ed228fccda1f39692059dd4c"),
    "bloodmnist224": _bloodmnist(224, "b718ff6835fcbdb22ba9eacccd7b2601"),
    "pbc": PublicData(
        title="PBC: 17,092 peripheral blood cells of eight kinds, 360 × 363 px, stained, in colour",
        licence=CC_BY,
        licence_read_at="Mendeley Data snkd93bnjr, as others quote it",
        citation=_PBC,
        use="cytolens run PBC_dataset_normal_DIB --size 200 --out study",
        files=(_PBC_IMAGES,),
    ),
    "bsccmnist": PublicData(
        title="BSCCMNIST: white blood cells, 28 × 28 px, label-free and fluorescence; nearest to "
        "the paper",
        licence=CC0,
        licence_read_at="Dryad, which takes data under CC0 only",
        citation="Pinkard et al. 2024, arXiv:2402.06191, doi:10.5061/dryad.sxksn038s",
        use="cytolens run . --channel Brightfield --classes lymphocyte granulocyte --limit 4000 "
        "--out study",
        dryad="10.5061/dryad.sxksn038s",
        pattern=r"(?i)(?:^|/)bsccmnist\.(?:tar\.gz|zip)$",
    ),
    "jurkat": PublicData(
        title="BBBC048: 32,266 Jurkat cells of seven cell-cycle phases, imaging flow cytometry",
        licence=None,
        licence_read_at="https://bbbc.broadinstitute.org/BBBC048",
        citation="Eulenberg et al. 2017, Nature Communications 8:463, "
        "doi:10.1038/s41467-017-00623-3; Ljosa et al. 2012, Nature Methods 9:637",
        use="cytolens run CellCycle --out study",
        files=(
            Remote(
                "BBBC048v1.zip",
                "https://data.broadinstitute.org/bbbc/BBBC048/BBBC048v1.zip",
                unpack=True,
            ),
        ),
    ),
    "wbcatt": PublicData(
        title="WBCAtt: 11 attributes of 10,298 white blood cells of PBC, with their images",
        licence=f"MIT (attributes), {CC_BY} (images)",
        licence_read_at="github.com/apple2373/wbcatt, LICENSE and metadata.yml; images: as pbc",
        citation="Tsutsui, Pang, Wen 2023, NeurIPS Datasets and Benchmarks, arXiv:2306.13531; "
        f"{_PBC}",
        use="cytolens run pbc_attr_v1_train.csv --size 200 --out study",
        files=(
            _attributes(
                "train", "0ae43bc4e38740dd2d93859e3894af96cb570ebc709620fa41b5042c628ff9ec"
            ),
            _attributes("val", "28a7c116c111e15652e995974770ceb91a1e123a9804d6a9c5e4a53d046be9a0"),
            _attributes("test", "f97100edd420a68d44fa15df11ef1f98a328813b9f5e9d49d67dbc20e89a73c5"),
            _PBC_IMAGES,
        ),
    ),
    "wbcbench": PublicData(
        title="WBCBench 2026: white blood cells of 13 kinds",
        licence="CC BY-NC 4.0",
        licence_read_at="https://huggingface.co/datasets/Xin-Tian/wbcbench2026",
        citation="Tian et al. 2026, arXiv:2604.10797",
        use="",
        refused="its licence, CC BY-NC 4.0, allows no commercial use; cytolens fetches only what "
        "anyone may use for anything",
    ),
}
"""By the name that is typed."""
