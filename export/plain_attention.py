"""Attention as plain as it can be exported: no fused operator, no position bias looked up in a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.pos_embed_rel import RelPosBias, RelPosBiasTf, RelPosMlp
from torch import Tensor, nn

TABLES = (RelPosBias, RelPosBiasTf, RelPosMlp)


@contextmanager
def plain_attention(network: nn.Module) -> Iterator[None]:
    """Within it `network` computes the same with products, softmax and a constant bias in every attention.

    A fused attention exports with two reshapes, whose shapes are computed, to transpose its keys; the table of a
    relative position bias exports with the gathers or products that look it up, on every tile anew.
    """
    fused: list[Any] = [module for module in network.modules() if getattr(module, "fused_attn", False)]
    tables = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, TABLES)
    ]
    try:
        for module in fused:
            module.fused_attn = False
        for parent, name, table in tables:
            with torch.no_grad():
                setattr(parent, name, _ConstantBias(table.get_bias()))
        yield
    finally:
        for module in fused:
            module.fused_attn = True
        for parent, name, table in tables:
            setattr(parent, name, table)


class _ConstantBias(nn.Module):
    """The bias of every head, float32 [1, heads, pixels, pixels]."""

    bias: Tensor

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("bias", bias.detach().contiguous())

    def forward(self, scores: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:  # noqa: ARG002 - timm's signature
        return scores + self.bias
