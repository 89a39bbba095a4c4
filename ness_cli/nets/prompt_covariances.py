"""What image tokens see of prompts, as covariances: whatever changes where they are zero is unseen.

Source: Lu et al., "Visual Prompt Tuning in Null Space for Continual Learning", NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ness_cli.nets.prompts import AttentionBlock, Prompts
from ness_cli.numerics import float64_device
from ness_cli.processes import current_processes


class PromptCovariances:
    """Sums over images of what their tokens see of prompts, block by block, in float64.

    A head's rows Q W are never made: (Q W)^T (Q W) = W^T (Q^T Q) W.

    Args:
        prompts: The prompts, which the network has.
    """

    def __init__(self, prompts: Prompts) -> None:
        self.prompts = prompts
        device = float64_device(prompts.tokens[0].device)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._queries, self._attention = {}, {}
        for block in prompts.blocks:
            own = block.width // block.num_heads
            self._queries[block.name] = zeros(block.num_heads, own, own)
            self._attention[block.name] = zeros(prompts.count, prompts.count)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Add the tokens of every forward pass made within."""
        handles = [
            block.attention.register_forward_pre_hook(
                lambda _, args, block=block: self.add(block, args[0].detach())
            )
            for block in self.prompts.blocks
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def add(self, block: AttentionBlock, x: torch.Tensor) -> None:
        """Add the tokens that go into attention, prompts last, ``[n, length + m, width]``."""
        q, k = block.queries_and_keys(x)
        q, count = q[:, :, : -self.prompts.count], self.prompts.count
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)[..., -count:]
        queries = self._queries[block.name]
        rows = q.transpose(0, 1).flatten(1, 2).to(queries.device).double()
        queries += rows.mT @ rows
        seen = weights.reshape(-1, count).to(queries.device).double()
        self._attention[block.name] += seen.mT @ seen

    def covariances(self) -> dict[str, torch.Tensor]:
        """Return the covariances of both kinds of rows, over all processes, float64 on the CPU.

        Returns:
            ``<block>.affinity``, of the rows Q W diag(gamma), queries of image tokens against the
            head's keys after layer norm's scale, ``[width, width]``; ``<block>.aggregation``, of
            the rows A diag(1 / std P), their attention to the prompts, ``[m, m]``.
        """
        found = {}
        for block, tokens in zip(self.prompts.blocks, self.prompts.tokens, strict=True):
            queries, seen = self._queries[block.name], self._attention[block.name]
            current_processes().sum_([queries])
            current_processes().sum_([seen])
            keys = block.in_proj.weight.detach()[block.width : 2 * block.width]
            keys = keys.view(block.num_heads, -1, block.width).to(queries)
            if block.norm.weight is not None:
                keys = keys * block.norm.weight.detach().to(queries)
            deviation = tokens.detach().to(queries).std(dim=1, correction=0)
            found[f"{block.name}.affinity"] = (keys.mT @ queries @ keys).sum(dim=0).cpu()
            found[f"{block.name}.aggregation"] = (seen / deviation / deviation[:, None]).cpu()
        return found
