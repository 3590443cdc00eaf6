"""Public data by name, from a server on this machine: resumed, checked, with their licence."""

import hashlib
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))

from made_bsccm import write_bsccm

from cytolens.cli.main import main
from cytolens.errors import InputError, SettingError
from cytolens.images.reading import read_cells
from cytolens.study import fetching
from cytolens.study.fetching import check_address, fetch, unpack
from cytolens.study.public_data import CATALOGUE, CC0, PublicData, Remote


class Server:
    """Files by path; what is asked of it; and where it breaks off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.breaks_after: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                if self.path in outer.redirects:
                    self.send_response(302)
                    self.send_header("Location", outer.redirects[self.path])
                    self.end_headers()
                    return
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted.split("=")[1].rstrip("-")) if wanted else 0
                if start >= len(content) > 0:
                    self.send_error(416)
                    return
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                part = content[start:]
                if outer.breaks_after is not None:
                    part, outer.breaks_after = part[: outer.breaks_after], None
                self.wfile.write(part)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[Server]:
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def data(server: Server, content: bytes, *, checksum: str | None = "md5") -> dict[str, PublicData]:
    server.files["/cells.npz"] = content
    known = None if checksum is None else f"{checksum}:{hashlib.new(checksum, content).hexdigest()}"
    remote = Remote("cells.npz", f"{server.address}/cells.npz", known)
    return {"cells": PublicData("Some cells", CC0, "here", "Me 2026", "cytolens run", (remote,))}


CONTENT = np.random.default_rng(0).bytes(3_000_000)


def test_a_file_is_fetched_once_with_its_licence(server: Server, tmp_path: Path):
    catalogue = data(server, CONTENT)
    fetched = fetch("cells", out=tmp_path, catalogue=catalogue)
    assert fetched.files[0].read_bytes() == CONTENT
    assert fetched.unchecked == ()
    assert "Licence: CC0 1.0" in (tmp_path / "LICENCE.txt").read_text()
    record = json.loads((tmp_path / "fetched.json").read_text())
    assert record["files"]["cells.npz"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert record["citation"] == "Me 2026"
    fetch("cells", out=tmp_path, catalogue=catalogue)
    assert len(server.asked) == 1
    assert not list(tmp_path.glob("*.part"))


def test_what_was_cut_off_is_gone_on_with(server: Server, tmp_path: Path):
    catalogue = data(server, CONTENT)
    server.breaks_after = 1_234_567
    fetched = fetch("cells", out=tmp_path, catalogue=catalogue)
    assert fetched.files[0].read_bytes() == CONTENT
    assert server.asked[0] == ("/cells.npz", None)
    start = int(str(server.asked[1][1]).removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 1_234_567


def test_a_part_of_an_earlier_call_is_gone_on_with(server: Server, tmp_path: Path):
    catalogue = data(server, CONTENT)
    (tmp_path / "cells.npz.part").write_bytes(CONTENT[:999_999])
    fetch("cells", out=tmp_path, catalogue=catalogue)
    assert server.asked == [("/cells.npz", "bytes=999999-")]
    (tmp_path / "cells.npz").rename(tmp_path / "cells.npz.part")  # whole, and not yet renamed
    assert fetch("cells", out=tmp_path, catalogue=catalogue).files[0].read_bytes() == CONTENT


def test_other_content_is_refused_and_not_kept(server: Server, tmp_path: Path):
    catalogue = data(server, CONTENT, checksum="sha256")
    server.files["/cells.npz"] = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match="is not what it should be"):
        fetch("cells", out=tmp_path, catalogue=catalogue)
    assert not list(tmp_path.glob("cells.npz*"))
    server.files["/cells.npz"] = CONTENT
    fetch("cells", out=tmp_path, catalogue=catalogue)
    (tmp_path / "cells.npz").write_bytes(b"damaged")
    assert fetch("cells", out=tmp_path, catalogue=catalogue).files[0].read_bytes() == CONTENT


def test_without_a_checksum_the_first_one_found_holds(server: Server, tmp_path: Path):
    catalogue = data(server, CONTENT, checksum=None)
    assert fetch("cells", out=tmp_path, catalogue=catalogue).unchecked == ("cells.npz",)
    (tmp_path / "cells.npz").unlink()
    server.files["/cells.npz"] = b"something else"
    with pytest.raises(InputError, match="checksum is not sha256"):
        fetch("cells", out=tmp_path, catalogue=catalogue)


def test_servers_that_fail_are_named(server: Server, tmp_path: Path):
    catalogue = data(server, CONTENT)
    del server.files["/cells.npz"]
    with pytest.raises(InputError, match=r"cells\.npz is not there \(HTTP 404\)"):
        fetch("cells", out=tmp_path, catalogue=catalogue)
    server.redirects["/cells.npz"] = "http://example.org/cells.npz"
    with pytest.raises(InputError, match=r"example\.org.* only https"):
        fetch("cells", out=tmp_path, catalogue=catalogue)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(InputError, match=r"cannot be fetched \(.*refused"):
        fetch("cells", out=tmp_path, catalogue=catalogue)
    server.http = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.http.serve_forever, args=(0.05,), daemon=True).start()


def test_files_of_dryad_are_found_by_its_interface(server: Server, tmp_path: Path):
    write_bsccm(tmp_path / "made", 60)
    archive = packed(
        {
            file.relative_to(tmp_path / "made").as_posix(): file.read_bytes()
            for file in (tmp_path / "made").rglob("*")
            if file.is_file()
        }
    )
    digest = hashlib.sha256(archive).hexdigest()
    listed = [
        {
            "path": name,
            "digest": digest,
            "digestType": "sha-256",
            "_links": {"stash:download": {"href": f"/api/v2/files/{i}/download"}},
        }
        for i, name in enumerate(("README.md", "BSCCMNIST.tar.gz", "BSCCMNIST-tiny.tar.gz"))
    ]
    version = {"_links": {"stash:version": {"href": "/api/v2/versions/7"}}}
    server.files |= {
        "/api/v2/datasets/doi%3A10.5061%2Fdryad.sxksn038s": json.dumps(version).encode(),
        "/api/v2/versions/7/files": json.dumps({"_embedded": {"stash:files": listed}}).encode(),
        "/api/v2/files/1/download": archive,
    }
    out = tmp_path / "fetched"
    fetched = fetch("bsccmnist", out=out, dryad=server.address)
    cells = read_cells(out, classes=["lymphocyte", "granulocyte"], channels="Brightfield")
    assert cells.shape == (1, 32, 32)  # 28 px, in a size of multiples of 8
    assert [file.name for file in fetched.files] == ["BSCCMNIST.tar.gz"]
    assert fetched.unchecked == ()
    server.files["/api/v2/versions/7/files"] = b"[]"
    with pytest.raises(InputError, match="in a way that is not known"):
        fetch("bsccmnist", out=out, dryad=server.address)


def archive(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return target.getvalue()


def test_archives_are_unpacked_with_those_in_them(server: Server, tmp_path: Path):
    inner = archive(**{"CellCycle/G1/1.png": b"a", "CellCycle/G2/2.png": b"b"})
    outer = archive(**{"CellCycle.zip": inner, "__MACOSX/x": b"?"})
    server.files["/a.zip"] = outer
    remote = Remote("a.zip", f"{server.address}/a.zip", unpack=True)
    catalogue = {"a": PublicData("", CC0, "", "", "", (remote,))}
    fetch("a", out=tmp_path, catalogue=catalogue)
    assert (tmp_path / "CellCycle/G2/2.png").read_bytes() == b"b"
    assert not (tmp_path / "__MACOSX").exists()


@pytest.mark.parametrize(
    "name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "a\\..\\out.txt"]
)
def test_archives_that_lead_elsewhere_are_refused(tmp_path: Path, name: str):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.zip").write_bytes(archive(**{name: b"x"}))
    with pytest.raises(InputError, match="leads elsewhere"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    assert not (tmp_path / "out.txt").exists()


def test_damaged_archives_are_refused(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(archive(a=b"x")[:-9])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path)


def test_what_may_not_be_used_is_not_fetched(tmp_path: Path):
    with pytest.raises(SettingError, match=r"CC BY-NC 4\.0, allows no commercial use"):
        fetch("wbcbench", out=tmp_path)
    with pytest.raises(SettingError, match=r"read it at https://bbbc.* --licence-read"):
        fetch("jurkat", out=tmp_path)
    with pytest.raises(SettingError, match="data 'mnist' is ambiguous"):
        fetch("mnist", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_catalogue_is_whole():
    for name, about in CATALOGUE.items():
        assert about.citation, name
        assert about.licence_read_at, name
        assert bool(about.refused) != bool(about.files or about.dryad), name
        assert about.refused or "NC" not in (about.licence or ""), name
        for remote in about.files:
            check_address(remote.url)


def test_the_command_says_licence_and_citation(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("cytolens.study.public_data.CATALOGUE", data(server, CONTENT))
    monkeypatch.setattr("cytolens.study.fetching.CATALOGUE", data(server, CONTENT))
    monkeypatch.setenv("CYTOLENS_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(["fetch", "cells"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert "licence: CC0 1.0" in said
    assert "cite: Me 2026" in said
    assert (tmp_path / "cells" / "cells.npz").is_file()
    with pytest.raises(SystemExit):
        main(["fetch"])
    assert "Some cells (CC0 1.0)" in capsys.readouterr().out


def test_the_classes_of_bloodmnist_have_names(tmp_path: Path):
    rng = np.random.default_rng(0)
    parts = {
        f"{s}_images": rng.integers(0, 99, (80, 28, 28, 3)).astype(np.uint8)
        for s in ("train", "val", "test")
    }
    parts |= {f"{s}_labels": np.arange(80)[:, None] % 8 for s in ("train", "val", "test")}
    np.savez(tmp_path / "bloodmnist.npz", **parts)
    cells = read_cells(tmp_path / "bloodmnist.npz", classes=["lymphocyte", "neutrophil"])
    assert cells.class_names == ("lymphocyte", "neutrophil")
    assert len(cells) == 60


def packed(files: dict[str, bytes], *, link: str = "") -> bytes:
    """A .tar.gz of these files, and a link that leads elsewhere."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if link:
            entry = tarfile.TarInfo("link")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return content.getvalue()


def test_tar_archives_are_unpacked_into_a_folder_of_their_own(tmp_path: Path) -> None:
    archive = tmp_path / "BSCCMNIST.tar.gz"
    archive.write_bytes(packed({"a.txt": b"1", "b/c.txt": b"2"}))
    unpack(archive, tmp_path)
    assert (tmp_path / "BSCCMNIST" / "b" / "c.txt").read_bytes() == b"2"
    unpack(archive, tmp_path)  # a second time nothing is done
    for name, content in {
        "up.tgz": packed({"../up.txt": b"1"}),
        "link.tgz": packed({}, link="/etc/passwd"),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="leads elsewhere"):
            unpack(tmp_path / name, tmp_path)
    (tmp_path / "cut.tgz").write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "cut.tgz", tmp_path)
    assert not (tmp_path.parent / "up.txt").exists()
    assert not (tmp_path / "cut").exists()
