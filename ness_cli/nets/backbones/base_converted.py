"""Models of a library as backbones: what all of them have in common.

The classifier is taken off, batch norm becomes ``TaskNorm``, and a vision transformer gets prompts
if they are asked for. Everything else stays as it is; what is no Linear or Conv2d layer (class
token, position embedding, layer norm, biases unless they are augmented) is trained in task 1 only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.prompts import AttentionBlock, make_prompts
from ness_cli.settings.nets.base_library import LibraryModel

MakeNorm = Callable[[int], TaskNorm]
Options = TypeVar("Options", bound=LibraryModel)


class ConvertedModel(nn.Module, ABC, Generic[Options]):
    """A converted model; layers have the library's names behind ``model.``.

    Args:
        options: Which model, its arguments.
        image_shape: ``(c, h, w)`` of the images.
        make_norm: Builds the normalisation layer of a given width.
        weights: Weights to start from, by the library's names; those of the classifier are left
            out.

    Raises:
        SettingsError: If there is no such model, it cannot be converted, or it cannot take such
            images.
        SystemRefusedError: If the library cannot be imported.
    """

    def __init__(
        self,
        options: Options,
        image_shape: Sequence[int],
        make_norm: MakeNorm,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        model = self.build(options, image_shape)
        if weights is not None:
            _load(model, weights, options)
        self.model = self.prepared(model)
        self.prompts = make_prompts(self.attention_blocks(self.model), options)
        self.options = options
        self.image_shape = tuple(image_shape)
        self._try(options)
        # Last of all: norms of each task's own have no scale before there is a task.
        _replace_batch_norm(self.model, make_norm)

    @abstractmethod
    def build(self, options: Options, image_shape: Sequence[int]) -> nn.Module:
        """Return the library's model without its classifier, initialised.

        Raises:
            SettingsError: If there is no such model, or it cannot take such images.
        """

    @staticmethod
    @abstractmethod
    def arguments(options: Options, image_shape: Sequence[int]) -> dict[str, Any]:
        """Return the arguments that the library makes the model with, plain, but for classes."""

    def origin(self, num_classes: int) -> dict[str, Any]:
        """Return how the library makes such a model with a classifier: plain values.

        They are ``library``, ``model`` and the ``arguments`` of the model's function.
        """
        own = self.arguments(self.options, self.image_shape)
        return {
            "library": self.options.name,
            "model": self.options.model,
            "arguments": {**own, "num_classes": num_classes},
        }

    @abstractmethod
    def remade(self, num_classes: int) -> nn.Module:
        """Return the library's own model, as ``origin`` says, initialised."""

    def prepared(self, model: nn.Module) -> nn.Module:
        """Return the model with all layers such that they can be observed."""
        return model

    @abstractmethod
    def attention_blocks(self, model: nn.Module) -> list[AttentionBlock]:
        """Return the blocks that can have prompts; none if it is no vision transformer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[n, num_features]`` of images ``[n, 3, h, w]``."""
        features: torch.Tensor = self.model(x)
        return features.flatten(1)

    @torch.no_grad()
    def _try(self, options: Options) -> None:
        """Pass two images through, and see that every adapted layer is really called."""
        layers = {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        called: set[str] = set()
        handles = [
            module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
            for name, module in layers.items()
        ]
        self.eval()
        try:
            with torch.random.fork_rng(devices=[]):
                features = self(torch.zeros(2, *self.image_shape))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise SettingsError(
                f"net.model: {options.model} cannot take images of {self.image_shape[1]} x"
                f" {self.image_shape[2]} pixels: {reason}",
                "set data.size to a size that it was made for",
            ) from error
        finally:
            self.train()
            for handle in handles:
                handle.remove()
        self.num_features = features.shape[1]
        self.silent_layers = tuple(name for name in layers if name not in called)


def made(options: LibraryModel, make: Callable[[], nn.Module]) -> nn.Module:
    """Return the model that a call of the library makes.

    Raises:
        SettingsError: If the library refuses its arguments.
    """
    try:
        return make()
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise SettingsError(
            f"net.arguments: {options.model}: {str(error).partition(chr(10))[0]}",
            "correct net.arguments, or data.size",
        ) from error


def _load(model: nn.Module, weights: Mapping[str, torch.Tensor], options: LibraryModel) -> None:
    own = model.state_dict()
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    given = {name: value for name, value in weights.items() if name in own}
    missing = sorted(wanted - given.keys())
    misfits = sorted(name for name, value in given.items() if value.shape != own[name].shape)
    if missing or misfits:
        wrong = (missing or misfits)[0]
        what = "lack" if missing else "have another shape of"
        raise SettingsError(
            f"net.pretrained: the weights {options.pretrained} {what} {wrong!r}"
            f" ({len(missing)} missing, {len(misfits)} of another shape)",
            f"they must be those of {options.model} with the same arguments and image size",
        )
    model.load_state_dict(given, strict=False)


def _replace_batch_norm(model: nn.Module, make_norm: MakeNorm) -> None:
    """Replace batch norm by ``TaskNorm``, scale and shift kept."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            norm = make_norm(module.num_features)
            norm.start_from(module.weight, module.bias, eps=module.eps)
            # Some of timm's drop and activate too.
            then = [getattr(module, part) for part in ("drop", "act") if hasattr(module, part)]
            put(model, name, nn.Sequential(norm, *then) if then else norm)


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of that name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
