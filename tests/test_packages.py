"""Packages: what is packed comes out, and nothing else does."""

import io
import json
import tarfile

import pytest

from critical_tokens.data import packages

FILES = ("data/d/train.parquet", "m/d/pairs.parquet", "m/d/cdpo/seed1/adapter_model.safetensors")


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for name in (*FILES, "m/d/pairs.meta.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def packed(results, tmp_path):
    package = tmp_path / "cell.tar"
    assert packages.pack(results, [results / name for name in FILES], package, {"model": "m", "dataset": "d"}) == 4
    return package


def test_a_package_comes_out_as_it_went_in(results, tmp_path):
    package = packed(results, tmp_path)
    assert packed(results, tmp_path).read_bytes() == package.read_bytes()
    other = tmp_path / "other"
    manifest = packages.unpack(package, other)
    assert (manifest["model"], manifest["dataset"]) == ("m", "d")
    names = sorted(p.relative_to(other).as_posix() for p in other.rglob("*") if p.is_file())
    assert (
        names
        == sorted(manifest["files"])
        == sorted(p.relative_to(results).as_posix() for p in results.rglob("*") if p.is_file())
    )
    assert all((other / name).read_bytes() == (results / name).read_bytes() for name in names)
    assert len({(other / name).stat().st_mtime for name in names}) == 1
    packages.unpack(package, other)  # the same files again


def test_what_is_there_is_kept(results, tmp_path):
    package = packed(results, tmp_path)
    (results / "m/d/pairs.parquet").write_bytes(b"mine")
    with pytest.raises(packages.PackageError, match=r"m/d/pairs.parquet: is there already and differs; --replace"):
        packages.unpack(package, results)
    assert (results / "m/d/pairs.parquet").read_bytes() == b"mine"
    packages.unpack(package, results, replace=True)
    assert (results / "m/d/pairs.parquet").read_bytes() == b"m/d/pairs.parquet"


def hostile(tmp_path, name, data=b"x", checksum=None, listed=True, kind=tarfile.REGTYPE):
    import hashlib

    package = tmp_path / "hostile.tar"
    stated = {name: {"size": len(data), "sha256": checksum or hashlib.sha256(data).hexdigest()}} if listed else {}
    manifest = json.dumps({"model": "m", "dataset": "d", "files": stated}).encode()
    with tarfile.open(package, "w") as tar:
        for member, content, type_ in (("manifest.json", manifest, tarfile.REGTYPE), (name, data, kind)):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = type_, "/etc/passwd"
            info.size = len(content) if type_ == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return package


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "../outside.json"}, "does not belong"),
        ({"name": "/tmp/outside.json"}, "does not belong"),
        ({"name": "m/d/../../../outside.json"}, "does not belong"),
        ({"name": "m/d/run.py"}, "does not belong"),
        ({"name": "m/d/model.pkl"}, "does not belong"),
        ({"name": "m/d/link.json", "kind": tarfile.SYMTYPE}, "does not belong"),
        ({"name": "m/d/more.json", "listed": False}, "does not belong"),
        ({"name": "m/d/pairs.parquet", "checksum": "0" * 64}, "does not have the checksum"),
        ({"name": "m/" + "d/" * 40 + "deep.json"}, "does not belong"),
        ({"name": "m/d/" + "x" * 300 + ".json"}, "does not belong"),
        ({"name": "m/d/é.json"}, "does not belong"),
    ],
)
def test_nothing_of_a_hostile_package_is_written(tmp_path, options, words):
    results = tmp_path / "results"
    with pytest.raises(packages.PackageError, match=words):
        packages.unpack(hostile(tmp_path, **options), results)
    assert not list(results.rglob("*")) if results.exists() else True
    assert not (tmp_path / "outside.json").exists()


@pytest.mark.parametrize("names", [("m/d/pairs.json", "m/d/Pairs.json"), ("m/d/a.json", "m/d/a.json/b.json")])
def test_names_that_collide_are_refused(tmp_path, names):
    manifest = json.dumps(
        {"model": "m", "dataset": "d", "files": {name: {"sha256": "0" * 64} for name in names}}
    ).encode()
    package = tmp_path / "cell.tar"
    with tarfile.open(package, "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(manifest)
        tar.addfile(info, io.BytesIO(manifest))
    with pytest.raises(packages.PackageError, match="collides with"):
        packages.unpack(package, tmp_path / "results")
    with pytest.raises(packages.PackageError, match="is no file"):
        packages.unpack(tmp_path / "missing.tar", tmp_path / "results")


def test_a_sparse_member_is_refused(tmp_path):
    """Ten kilobytes that unpack to sixteen gigabytes of zeros."""
    size = 1 << 34
    name = "m/d/pairs.json"
    data = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    package = hostile(tmp_path, name, data)
    with tarfile.open(package) as tar:
        manifest = tar.extractfile("manifest.json").read()
    with tarfile.open(package, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in (("manifest.json", manifest), (name, data)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            if member == name:
                sparse = {"major": "1", "minor": "0", "name": name, "realsize": str(size)}
                info.pax_headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(packages.PackageError, match="does not belong"):
        packages.unpack(package, tmp_path / "results")


def test_a_chain_of_headers_is_refused(tmp_path):
    """Long names of long names, which the library reads by recursion."""
    package = hostile(tmp_path, "m/d/pairs.json")
    with tarfile.open(package) as tar:
        end = tar.getmembers()[1].offset
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 14
    link = header.tobuf(tarfile.GNU_FORMAT) + b"m/d/pairs.json".ljust(512, b"\0")
    package.write_bytes(package.read_bytes()[:end] + link * 5000)
    with pytest.raises(packages.PackageError, match="is no complete tar file"):
        packages.unpack(package, tmp_path / "results")


def test_what_cannot_be_put_in_its_place_is_named(results, tmp_path):
    package = packed(results, tmp_path)
    (tmp_path / "other" / "m" / "d" / "pairs.parquet").mkdir(parents=True)
    with pytest.raises(
        packages.PackageError, match=r"pairs\.parquet: is no file, but the package has one of that name"
    ):
        packages.unpack(package, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.safetensors"))
    with tarfile.open(package, "a") as tar:
        tar.addfile(tarfile.TarInfo(FILES[0]))
    with pytest.raises(packages.PackageError, match="twice"):
        packages.unpack(package, tmp_path / "third")
    for path in (tmp_path / "outside.json", results / "m" / "d" / "missing.json"):
        with pytest.raises(packages.PackageError, match="is no file below"):
            packages.pack(results, [path], tmp_path / "mine.tar", {})


@pytest.mark.parametrize("data", [b"", b"no tar file", b"\0" * 2048])
def test_what_is_no_package_is_named(tmp_path, data):
    package = tmp_path / "cell.tar"
    package.write_bytes(data)
    with pytest.raises(
        packages.PackageError, match=r"cell\.tar: (is no complete tar file|does not begin with a manifest)"
    ):
        packages.unpack(package, tmp_path / "results")


def test_a_package_cut_short_is_refused(results, tmp_path):
    package = packed(results, tmp_path)
    package.write_bytes(package.read_bytes()[:-10_000])
    with pytest.raises(packages.PackageError):
        packages.unpack(package, tmp_path / "other")
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").rglob("*"))
