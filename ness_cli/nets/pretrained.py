"""Weights that a model of a library starts from: fetched once, checked, kept as safetensors.

Published weights are pickles, whose file names hold the start of their SHA-256. They are checked
against it, read with torch's restricted reader (``weights_only``), which builds nothing but
tensors, written to the cache as safetensors, and never opened again. Those of timm's models are
taken from the cache of the Hugging Face hub if they are there; they are never downloaded.
"""

from __future__ import annotations

import importlib
import re
import tempfile
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ness_cli import tensor_files
from ness_cli.errors import InputError, MissingFilesError, SettingsError, did_you_mean
from ness_cli.hashing import sha256_of_file
from ness_cli.settings.nets.base import NetSettings
from ness_cli.settings.nets.base_library import LibraryModel
from ness_cli.settings.nets.timm import Options as TimmOptions
from ness_cli.vision_libraries import import_timm, import_torchvision

if TYPE_CHECKING:
    from ness_cli.console import Progress

Tensors = dict[str, torch.Tensor]
_SUFFIXES = (".safetensors", ".pth", ".pt")
_IDENTITY = {"kind": "pretrained"}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Pretrained:
    """Weights in the cache.

    Attributes:
        file: Name of the file in the folder ``weights`` of the cache.
        sha256: Its hash, in hexadecimal.
    """

    file: str
    sha256: str

    def read(self, cache: Path) -> Tensors:
        """Return the weights by the library's names.

        Raises:
            InputError: If they are gone from the cache.
            DamagedError: If they are not what was put there.
        """
        path = cache / "weights" / self.file
        remedy = "run the same ness prepare again"
        return tensor_files.read(path, _IDENTITY, remedy=remedy, sha256=self.sha256)

    def is_in(self, cache: Path) -> bool:
        """Return whether they are in the cache, whole."""
        path = cache / "weights" / self.file
        return path.exists() and sha256_of_file(path) == self.sha256


def fetch(net: NetSettings, cache: Path, progress: Progress) -> Pretrained | None:
    """Make sure that the weights which a network starts from are in the cache.

    Args:
        net: The network; only models of libraries start from weights, if they are asked to.
        cache: Folder of prepared data.
        progress: Told of a download.

    Raises:
        SettingsError: If the model has no weights of that name.
        InputError: If a file is missing, is not what was published, or holds no weights.
    """
    if not isinstance(net, LibraryModel) or net.pretrained is None:
        return None
    folder = cache / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    if net.pretrained.endswith(_SUFFIXES):
        source = Path(net.pretrained).expanduser()
        if not source.is_file():
            raise MissingFilesError(
                f"net.pretrained: {source} is not there", "correct net.pretrained"
            )
        target = folder / f"{source.stem}-{sha256_of_file(source)[:16]}.safetensors"
    elif isinstance(net, TimmOptions):
        source = _in_hub_cache(net)
        target = folder / f"{net.model}-{sha256_of_file(source)[:16]}.safetensors"
    else:
        url = _url(net.model, net.pretrained)
        source = folder / url.rpartition("/")[2]
        target = source.with_suffix(".safetensors")
        if not target.exists():
            _download(url, source, progress)
    if not target.exists():
        tensor_files.write(target, _load(source), _IDENTITY)
        if source.parent == folder:
            source.unlink()
    return Pretrained(target.name, sha256_of_file(target))


def _in_hub_cache(net: TimmOptions) -> Path:
    """Return where the cache of the Hugging Face hub has the weights of a model of timm."""
    if net.pretrained != "cache":
        raise SettingsError(
            f"net.pretrained: {net.pretrained!r} is neither a .safetensors nor a .pth file",
            "give a file, or net.pretrained=cache for what the hub's cache has already",
        )
    timm = import_timm()
    config = timm.get_pretrained_cfg(net.model) if timm.is_model(net.model) else None
    repository = getattr(config, "hf_hub_id", None)
    if repository is None:
        raise SettingsError(
            f"net.pretrained: timm names no weights on the hub for {net.model}",
            "give net.model with a tag of timm.list_pretrained(), or a file of your own",
        )
    hub = importlib.import_module("huggingface_hub")
    found = hub.try_to_load_from_cache(repository, "model.safetensors")
    if not isinstance(found, str):
        raise MissingFilesError(
            f"net.pretrained: model.safetensors of {repository} is not in the hub's cache",
            f"hf download {repository} model.safetensors, or give a file of your own",
        )
    return Path(found)


def _url(model: str, weights: str) -> str:
    models = import_torchvision().models
    try:
        known: Mapping[str, Any] = models.get_model_weights(model).__members__
    except ValueError:
        known = {}
    if weights not in known:
        raise SettingsError(
            f"net.pretrained: {model} has no weights {weights!r}{did_you_mean(weights, known)}",
            f"known: {', '.join(known) or 'none'}; or give a .safetensors or .pth file",
        )
    url: str = known[weights].url
    return url


def _download(url: str, target: Path, progress: Progress) -> None:
    """Download a file, unless it was put there by hand, and check it either way."""
    match = re.search(r"-([0-9a-f]{8,})\.", target.name)
    prefix = match[1] if match else ""
    if not target.exists():
        progress.note(f"downloading {url}")
        try:
            with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
                path = Path(temporary) / target.name
                torch.hub.download_url_to_file(url, str(path), progress=False)
                path.replace(target)
        except (urllib.error.URLError, OSError) as error:
            raise MissingFilesError(
                f"net.pretrained: {url} cannot be downloaded: {getattr(error, 'reason', error)}",
                f"put {target.name} into {target.parent} and prepare again",
            ) from error
    found = sha256_of_file(target)
    if not found.startswith(prefix):
        target.unlink()
        raise InputError(
            f"net.pretrained: {target.name} has the SHA-256 {found[:16]}..., not {prefix}...",
            "prepare again, or put the true file there",
        )


def _load(path: Path) -> Tensors:
    """Return the tensors of a safetensors file, or of a pickle read with restrictions."""
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"net.pretrained: {path} cannot be read as weights: {reason}",
            "give a file of tensors only, best as .safetensors",
        ) from error
    if not isinstance(found, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in found.values()
    ):
        raise InputError(
            f"net.pretrained: {path} holds more than named tensors",
            "save model.state_dict() and nothing else",
        )
    return {str(name): value.contiguous() for name, value in found.items()}
