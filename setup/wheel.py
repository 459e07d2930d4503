#!/usr/bin/env python3
"""Packs loragrid and loragrid-engine into a Python wheel that uses the libtorch of the torch package, CPU or CUDA.

usage: wheel.py PROGRAMS OUT

PROGRAMS is the folder with the built programs, OUT the folder for the wheel. Needs patchelf, whose path is in PATCHELF.
"""
import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "2.11"
# Where torch is from the folder of programs, in virtual environments, user installations and Debian's Python.
FOLDERS = [f"$ORIGIN/../lib/python3.{minor}/{packages}/torch/lib"
           for minor in range(10, 16) for packages in ("site-packages", "dist-packages")]


def version():
    manifest = (ROOT / "Cargo.toml").read_text()
    return re.search(r'\[workspace\.package\]\nversion = "([^"]+)"', manifest).group(1)


def tag():
    """The oldest system that the programs run on is the one that they were built on."""
    major, minor = platform.libc_ver()[1].split(".")[:2]
    return f"py3-none-manylinux_{major}_{minor}_x86_64"


def program(path, scratch):
    """A copy of a program that finds torch beside it, without the paths of this machine."""
    copy = scratch / path.name
    shutil.copy(path, copy)
    subprocess.run(["strip", "--strip-debug", str(copy)], check=True)
    if path.name == "loragrid-engine":
        patchelf = os.environ.get("PATCHELF", "patchelf")
        subprocess.run([patchelf, "--force-rpath", "--set-rpath", ":".join(FOLDERS), str(copy)], check=True)
    return copy.read_bytes()


def metadata(number):
    readme = (ROOT / "README.md").read_text()
    # Pictures and pages are in the repository only.
    readme = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", readme)
    lines = ["Metadata-Version: 2.1", "Name: loragrid", f"Version: {number}",
             "Summary: Run sweeps of LoRA finetunings, and find out which settings are better",
             "License: Apache-2.0", "Requires-Python: >=3.10", f"Requires-Dist: torch=={TORCH}.*",
             "Description-Content-Type: text/markdown", "", readme]
    return "\n".join(lines).encode()


def main():
    programs, out = Path(sys.argv[1]), Path(sys.argv[2])
    number, kind = version(), tag()
    data, info = f"loragrid-{number}.data/scripts", f"loragrid-{number}.dist-info"
    files = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("loragrid", "loragrid-engine"):
            files.append((f"{data}/{name}", program(programs / name, Path(scratch)), 0o755))
    wheel = f"Wheel-Version: 1.0\nGenerator: loragrid\nRoot-Is-Purelib: false\nTag: {kind}\n"
    files += [(f"{info}/METADATA", metadata(number), 0o644), (f"{info}/WHEEL", wheel.encode(), 0o644)]
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')},{len(content)}\n"
        for name, content, _ in files)
    files.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode(), 0o644))
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"loragrid-{number}-{kind}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in files:
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    print(f"wrote {path} ({path.stat().st_size // 1_000_000} MB)")


if __name__ == "__main__":
    main()
