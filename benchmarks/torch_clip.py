"""CLIP as one writes it with PyTorch alone, with SDPA, under the names of transformers' CLIPModel.

A test holds it equal to CLIPModel. It is here so that a machine with PyTorch and without transformers, of any version,
can be compared with.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrsclip_jax.models.clip import CLIP


class Attention(nn.Module):
    """Self-attention by `scaled_dot_product_attention`, with a layer each for queries, keys and values."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        split = [
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        ]
        mixed = F.scaled_dot_product_attention(*split, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with QuickGELU, or GELU, between them."""

    def __init__(self, width: int, hidden: int, activation: str):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.quick = activation == "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))


class Block(nn.Module):
    def __init__(self, tower: Any, causal: bool):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(tower.width, tower.norm_eps)
        self.self_attn = Attention(tower.width, tower.heads, causal)
        self.layer_norm2 = nn.LayerNorm(tower.width, tower.norm_eps)
        self.mlp = MLP(tower.width, tower.mlp_width or 4 * tower.width, tower.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, tower: Any, causal: bool):
        super().__init__()
        self.layers = nn.ModuleList(Block(tower, causal) for _ in range(tower.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class ImageTower(nn.Module):
    """Pixels [B, 3, H, W] to the class token after the last norm, [B, width]."""

    def __init__(self, tower: Any):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.empty(tower.width))
        self.embeddings.patch_embedding = nn.Conv2d(3, tower.width, tower.patch, tower.patch, bias=False)
        self.embeddings.position_embedding = nn.Embedding((tower.size // tower.patch) ** 2 + 1, tower.width)
        self.pre_layrnorm = nn.LayerNorm(tower.width, tower.norm_eps)  # sic
        self.encoder = Encoder(tower, causal=False)
        self.post_layernorm = nn.LayerNorm(tower.width, tower.norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.embeddings.class_embedding.expand(len(pixels), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.embeddings.position_embedding.weight
        return self.post_layernorm(self.encoder(self.pre_layrnorm(x))[:, 0])


class TextTower(nn.Module):
    """Ids [B, L] to the token of the first `end_token` after the last norm, [B, width]."""

    def __init__(self, tower: Any):
        super().__init__()
        self.end_token = tower.end_token
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(tower.vocab_size, tower.width)
        self.embeddings.position_embedding = nn.Embedding(tower.context_length, tower.width)
        self.encoder = Encoder(tower, causal=True)
        self.final_layer_norm = nn.LayerNorm(tower.width, tower.norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.embeddings.position_embedding.weight[: ids.shape[1]]
        x = self.final_layer_norm(self.encoder(self.embeddings.token_embedding(ids) + positions))
        ends = (ids == self.end_token).int().argmax(dim=1)
        return x[torch.arange(len(ids), device=ids.device), ends]


class TorchCLIP(nn.Module):
    """Both towers of one of our models, with weights drawn for the occasion."""

    def __init__(self, model: CLIP):
        super().__init__()
        self.vision_model, self.text_model = ImageTower(model.image), TextTower(model.text)
        self.visual_projection = nn.Linear(model.image.width, model.image.embed_dim, bias=False)
        self.text_projection = nn.Linear(model.text.width, model.text.embed_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(model.logit_scale)))
        for name, value in self.named_parameters():
            if name.endswith(("embedding", "embedding.weight", "proj.weight", "fc1.weight", "fc2.weight")):
                nn.init.normal_(value, std=0.02)

    def images(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] to rows [B, E], not normalised."""
        return self.visual_projection(self.vision_model(pixels))

    def texts(self, ids: Tensor) -> Tensor:
        """[B, L] to rows [B, E], not normalised."""
        return self.text_projection(self.text_model(ids))
