"""Wheels and native files that Azure's image cannot load are refused, by their tags and by the glibc they need."""

from pathlib import Path

import pytest

from release import wheel_check
from release.libraries import PackageError


def installed(folder: Path, *tags: str, name: str = "thing") -> Path:
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (about / "WHEEL").write_text("Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "tags",
    [
        ["py3-none-any"],
        ["py2-none-any", "py3-none-any"],
        ["py2.py3-none-any"],
        ["cp36-abi3-manylinux2010_x86_64"],
        ["cp311-abi3-manylinux_2_28_x86_64"],
        ["cp313-cp313-manylinux1_x86_64", "cp313-cp313-manylinux_2_34_x86_64"],
        ["cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64"],
        ["cp313-cp313-manylinux_2_28_x86_64"],
        ["py3-none-manylinux_2_17_x86_64"],
    ],
    ids=" ".join,
)
def test_a_wheel_that_the_platform_loads_is_accepted(tmp_path: Path, tags: list[str]) -> None:
    assert wheel_check.check_wheels(installed(tmp_path, *tags)) == 0


@pytest.mark.parametrize(
    "tag",
    [
        "cp312-cp312-manylinux_2_17_x86_64",
        "cp314-abi3-manylinux_2_17_x86_64",
        "cp313-cp313t-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_29_x86_64",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp313-cp313-musllinux_1_2_x86_64",
        "cp313-cp313-macosx_11_0_arm64",
        "cp313-cp313-linux_x86_64",
        "pp311-pypy311_pp73-manylinux_2_17_x86_64",
        "py2-none-any",
    ],
)
def test_a_wheel_for_another_python_or_machine_is_refused(tmp_path: Path, tag: str) -> None:
    installed(tmp_path, "py3-none-any", name="good")
    with pytest.raises(PackageError, match=rf"cannot load: thing \({tag}\)$"):
        wheel_check.check_wheels(installed(tmp_path, tag))


def test_a_wheel_without_tags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="thing"):
        wheel_check.check_wheels(installed(tmp_path))


@pytest.mark.parametrize(
    ("version", "taken"),
    [("2.2.5", True), ("2.28", True), ("2.29", False), ("2.100", False)],
    ids=["glibc 2.2.5", "glibc 2.28", "glibc 2.29", "glibc 2.100"],
)
def test_a_native_file_that_needs_a_newer_glibc_is_refused(tmp_path: Path, version: str, *, taken: bool) -> None:
    installed(tmp_path, "py3-none-any")
    (tmp_path / "a.so").write_bytes(b"\x7fELF\x02\x01\0GLIBC_2.14\0" + f"GLIBC_{version}\0".encode())
    (tmp_path / "b.txt").write_bytes(b"GLIBC_2.99 in a text file does not count")
    if taken:
        assert wheel_check.check_wheels(tmp_path) == 1
        return
    major, minor = version.split(".")[:2]
    with pytest.raises(PackageError, match=rf"newer glibc than 2\.28: a\.so needs {major}\.{minor}$"):
        wheel_check.check_wheels(tmp_path)


def test_the_glibc_of_a_real_native_file_is_read() -> None:
    """The search finds symbol versions in a real file: a native module of this interpreter."""
    import _ctypes  # noqa: PLC0415 - a native module that every Python has

    assert wheel_check._needed_glibc(Path(_ctypes.__file__).read_bytes()) > (2, 0)
