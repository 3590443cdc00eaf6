"""Fetching public data: resumed where it stopped, checked, kept, with its licence and citation."""

import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from cytolens.errors import InputError, SettingError, choose
from cytolens.records.cells import Progress
from cytolens.store.files import write_bytes
from cytolens.study.public_data import CATALOGUE, PublicData, Remote

_PART = 1 << 20
_SECONDS = 60  # without a byte, after which a server is given up
_TRIES = 3
_MOST_JSON = 16 << 20
_MOST_UNPACKED = 1 << 40
_TAR = (".tar.gz", ".tgz", ".tar")
_DRYAD = "https://datadryad.org"
_RECORD = "fetched.json"


@dataclass(frozen=True)
class Fetched:
    """Where data lie now, and what was found out about their files."""

    folder: Path
    about: PublicData
    files: tuple[Path, ...]
    unchecked: tuple[str, ...]  # names of files whose publisher gives no checksum


def data_home() -> Path:
    """Where fetched data are kept: CYTOLENS_DATA, or the user's cache."""
    named = os.environ.get("CYTOLENS_DATA")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "cytolens" / "data"


def fetch(
    name: str,
    *,
    out: str | Path | None = None,
    licence_read: bool = False,
    catalogue: dict[str, PublicData] | None = None,
    dryad: str = _DRYAD,
    progress: Progress | None = None,
) -> Fetched:
    """The public data of that name, in ``out`` or in the user's cache.

    A file that is there already, and is what it should be, is not fetched again; one that was cut
    off is gone on with. Its checksum is the publisher's; where none is known, the one found is
    written down, and a later fetch that finds another is refused. ``LICENCE.txt`` and
    ``fetched.json`` say what came from where.

    Raises SettingError for a name that is not known and for data that are not fetched, InputError
    where a server does not answer or sends something else.
    """
    known = CATALOGUE if catalogue is None else catalogue
    name = choose("data", name, list(known))
    about = known[name]
    if about.refused:
        raise SettingError(f"'{name}' is not fetched: {about.refused}")
    if about.licence is None and not licence_read:
        raise SettingError(
            f"the licence of '{name}' could not be verified when this version was made; read it at "
            f"{about.licence_read_at}, and if you may use the data, say so with --licence-read"
        )
    folder = Path(out).expanduser() if out is not None else data_home() / name
    folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder)
    remotes = about.files or _files_of_dryad(dryad, about)
    files: list[Path] = []
    unchecked: list[str] = []
    for remote in remotes:
        wanted = remote.checksum or record.get(remote.name, {}).get("sha256")
        wanted = wanted if wanted is None or ":" in wanted else f"sha256:{wanted}"
        found = _fetch_file(remote, folder, wanted, progress)
        if remote.checksum is None:
            unchecked.append(remote.name)
        record[remote.name] = {"url": remote.url, "sha256": found, "fetched": _today()}
        if remote.unpack:
            unpack(folder / remote.name, folder)
        files.append(folder / remote.name)
    content = {"data": name, "licence": about.licence, "citation": about.citation, "files": record}
    write_bytes(folder / _RECORD, json.dumps(content, indent=2).encode())
    write_bytes(folder / "LICENCE.txt", _licence(about).encode())
    return Fetched(folder, about, tuple(files), tuple(unchecked))


def _licence(about: PublicData) -> str:
    licence = about.licence or "not verified by cytolens; you said that you have read it"
    return (
        f"{about.title}\n\nLicence: {licence} (read at: {about.licence_read_at})\n"
        f"Cite: {about.citation}\n"
    )


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _read_record(folder: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["files"]
        return {str(name): dict(entry) for name, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _fetch_file(remote: Remote, folder: Path, wanted: str | None, progress: Progress | None) -> str:
    """Brings one file to ``folder``; gives its SHA-256. Raises InputError."""
    place, part = folder / remote.name, folder / f"{remote.name}.part"
    if place.is_file():
        found = _checked(place, wanted)
        if found is not None:
            return found
        place.unlink()
    for attempt in range(_TRIES):
        try:
            _download(remote, part, progress)
            break
        except (OSError, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise InputError(
                    f"{remote.url} is not there (HTTP {error.code}); it may have moved"
                ) from None
            if attempt == _TRIES - 1:
                reason = getattr(error, "reason", None) or error
                raise InputError(
                    f"{remote.url} cannot be fetched ({reason}); the same command goes on from here"
                ) from None
            time.sleep(attempt)
    found = _checked(part, wanted)
    if found is None:
        part.unlink()
        raise InputError(
            f"{remote.url} is not what it should be (its checksum is not {wanted}); nothing is kept"
        )
    part.replace(place)
    return found


def _checked(path: Path, wanted: str | None) -> str | None:
    """The SHA-256 of a file; None where its checksum is not the one wanted."""
    kind, _, value = (wanted or "sha256:").partition(":")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
        if value and digest.hexdigest() != value.lower():
            return None
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Encrypted(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to an address as safe as the first."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Raises InputError for what is neither HTTPS nor on this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise InputError(f"{url} is not fetched: only https:// is")


def _open(url: str, headers: dict[str, str]) -> Any:
    check_address(url)
    request = urllib.request.Request(url, headers={"User-Agent": "cytolens", **headers})
    return urllib.request.build_opener(_Encrypted).open(request, timeout=_SECONDS)


def _download(remote: Remote, part: Path, progress: Progress | None) -> None:
    """Into ``part``, after the bytes that it has."""
    have = part.stat().st_size if part.is_file() else 0
    try:
        answer = _open(remote.url, {"Range": f"bytes={have}-"} if have else {})
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: there is nothing after what is here
            raise
        return
    with answer:
        goes_on = have > 0 and answer.status == 206
        done = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else 0
        if total and shutil.disk_usage(part.parent).free < total - done:
            raise InputError(f"{remote.name} needs {total >> 20} MiB of disk at {part.parent}")
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(_PART):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done >> 20, max(total, done) >> 20, f"MiB of {remote.name}")
    if total and done < total:
        raise OSError(f"the connection ended after {done} of {total} bytes")


def _files_of_dryad(server: str, about: PublicData) -> tuple[Remote, ...]:
    """The files of a Dryad data set, with their checksums, as its API lists them."""
    dataset = _json(f"{server}/api/v2/datasets/{quote('doi:' + about.dryad, safe='')}")
    try:
        version = dataset["_links"]["stash:version"]["href"]
        listed = _json(urljoin(server, f"{version}/files"))["_embedded"]["stash:files"]
        remotes = tuple(
            Remote(
                Path(entry["path"]).name,
                urljoin(server, entry["_links"]["stash:download"]["href"]),
                f"{entry['digestType'].replace('-', '')}:{entry['digest']}"
                if entry.get("digest") and entry.get("digestType") in ("md5", "sha-256", "sha256")
                else None,
                unpack=_is_packed(entry["path"]),
            )
            for entry in listed
            if re.search(about.pattern, entry["path"])
        )
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{server} lists doi:{about.dryad} in a way that is not known") from None
    if not remotes:
        raise InputError(f"{server} lists no file '{about.pattern}' of doi:{about.dryad}")
    return remotes


def _json(url: str) -> Any:
    try:
        with _open(url, {"Accept": "application/json"}) as answer:
            return json.loads(answer.read(_MOST_JSON))
    except urllib.error.HTTPError as error:
        raise InputError(f"{url} is not there (HTTP {error.code}); it may have moved") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{url} cannot be fetched ({error})") from None


def _is_packed(name: str) -> bool:
    return name.lower().endswith((".zip", *_TAR))


def unpack(archive: Path, folder: Path, *, once: Callable[[Path], bool] = Path.is_file) -> None:
    """The files of a ZIP archive in ``folder``, archives in it too; those that are there stay.

    Those of a TAR archive are put into a folder of its name there. Raises InputError for an archive
    that is damaged, and for names that lead elsewhere.
    """
    if archive.name.lower().endswith(_TAR):
        _unpack_tar(archive, folder / archive.name.split(".")[0])
        return
    inner: list[Path] = []
    try:
        with zipfile.ZipFile(archive) as packed:
            if sum(info.file_size for info in packed.infolist()) > _MOST_UNPACKED:
                raise InputError(f"{archive} unpacks to more than {_MOST_UNPACKED >> 30} GiB")
            for info in packed.infolist():
                place = folder / info.filename
                inside = place.resolve().is_relative_to(folder.resolve())
                linked = (info.external_attr >> 16) & 0o170000 == 0o120000
                if not inside or linked or "\\" in info.filename:
                    raise InputError(f"{archive} holds '{info.filename}', which leads elsewhere")
                if info.is_dir() or info.filename.startswith("__MACOSX/"):
                    continue
                if not (once(place) and place.stat().st_size == info.file_size):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    partial = place.with_name(f"{place.name}.part")
                    with packed.open(info) as source, partial.open("wb") as target:
                        shutil.copyfileobj(source, target, _PART)
                    partial.replace(place)
                if place.suffix.lower() == ".zip":
                    inner.append(place)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{archive} cannot be unpacked ({error})") from None
    for place in inner:
        unpack(place, place.parent)


def _unpack_tar(archive: Path, folder: Path) -> None:
    """The files of a TAR archive in ``folder``, which is there only when all of them are."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    left = _MOST_UNPACKED
    try:
        with tarfile.open(archive) as packed:
            for entry in packed:
                left -= entry.size
                if left < 0:
                    raise InputError(f"{archive} unpacks to more than {_MOST_UNPACKED >> 30} GiB")
                packed.extract(entry, partial, filter="data")  # refuses what leads elsewhere
    except tarfile.FilterError as error:
        raise InputError(f"{archive} holds what leads elsewhere ({error})") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{archive} cannot be unpacked ({reason})") from None
    partial.mkdir(exist_ok=True)
    partial.replace(folder)
