"""A plain torch version of the small model that `engram-ref train` trains, as a competent user would write it.

It uses nothing from engram_ref: eager modules, autograd, torch's fused attention and optimiser. Modules and parameters
have this package's names, so that both can start from the same numbers. The model has one residual branch, sigmoid
routing without groups or shared experts, attention without a query latent, and at most one Engram module.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Rotation:
    """Rotary embedding of adjacent channel pairs, as complex numbers: [..., T, dim] -> the same shape."""

    def __init__(self, length, dim, theta, dtype):
        angles = torch.outer(torch.arange(length), theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim))
        self.factors = torch.polar(torch.ones_like(angles), angles)
        self.factors = self.factors.to(torch.complex64 if dtype == torch.float32 else torch.complex128)

    def __call__(self, x):
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * self.factors).flatten(-2)


class Attention(nn.Module):
    """Multi-head latent attention."""

    def __init__(self, c, D):
        super().__init__()
        self.heads, self.nope, self.rope, self.v = c.n_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
        self.rank = c.kv_lora_rank
        self.wq = nn.Linear(D, self.heads * (self.nope + self.rope), bias=False)
        self.wkv_a = nn.Linear(D, self.rank + self.rope, bias=False)
        self.kv_norm = nn.RMSNorm(self.rank, eps=c.latent_norm_eps)
        self.wkv_b = nn.Linear(self.rank, self.heads * (self.nope + self.v), bias=False)
        self.wo = nn.Linear(self.heads * self.v, D, bias=False)

    def forward(self, x, rotate):
        q = self.wq(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q_nope, q_pe = q.split([self.nope, self.rope], dim=-1)
        c, k_pe = self.wkv_a(x).split([self.rank, self.rope], dim=-1)
        kv = self.wkv_b(self.kv_norm(c)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k_nope, v = kv.split([self.nope, self.v], dim=-1)
        k_pe = rotate(k_pe)[:, None].expand(-1, self.heads, -1, -1)
        q, k = torch.cat([q_nope, rotate(q_pe)], dim=-1), torch.cat([k_nope, k_pe], dim=-1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))


class Experts(nn.Module):
    """Sigmoid routing and a loop over experts, as in common model classes."""

    def __init__(self, c, D):
        super().__init__()
        self.c, E, width = c, c.n_routed_experts, c.moe_intermediate_size
        self.gate = nn.Linear(D, E, bias=False)
        self.register_buffer("bias", torch.zeros(E))
        self.w1, self.w3 = (nn.Parameter(torch.empty(E, width, D)) for _ in range(2))
        self.w2 = nn.Parameter(torch.empty(E, D, width))

    def forward(self, x):
        tokens = x.flatten(0, 1)
        scores = torch.sigmoid(self.gate(tokens))
        chosen = torch.topk(scores + self.bias, self.c.num_experts_per_tok, dim=-1).indices
        weights = scores.gather(1, chosen)
        weights = weights / weights.sum(-1, keepdim=True) * self.c.routed_scaling_factor
        y = torch.zeros_like(tokens)
        for e, (w1, w2, w3) in enumerate(zip(self.w1, self.w2, self.w3, strict=True)):
            token, slot = torch.where(chosen == e)
            part = tokens[token]
            output = F.linear(F.silu(F.linear(part, w1)) * F.linear(part, w3), w2)
            y.index_add_(0, token, output * weights[token, slot, None])
        return y.view_as(x)


class Engram(nn.Module):
    """The hash of the demo, tables, gate and convolution for one residual branch."""

    def __init__(self, c, multipliers, primes):
        super().__init__()
        D, width = c.hidden_size, c.memory_width
        self.multipliers, self.primes = torch.tensor(multipliers), torch.tensor(primes)
        self.register_buffer("column_offsets", torch.zeros(len(primes), dtype=torch.int64))
        self.pad, self.heads, self.span = c.pad_id, c.n_heads, (c.conv_kernel - 1) * c.conv_dilation
        self.table = nn.Embedding(int(primes.sum()), c.row_width)
        self.key, self.value = nn.Linear(width, D, bias=False), nn.Linear(width, D, bias=False)
        self.query_norm, self.key_norm = nn.RMSNorm(D, eps=c.norm_eps), nn.RMSNorm(D, eps=c.norm_eps)
        self.conv_norm = nn.RMSNorm(D, eps=c.conv_norm_eps)
        self.conv = nn.Conv1d(D, D, c.conv_kernel, groups=D, padding=self.span, dilation=c.conv_dilation, bias=False)

    def rows(self, ids):
        mix, columns = ids * self.multipliers[0], []
        for k in range(1, len(self.multipliers)):
            mix = mix ^ F.pad(ids, (k, 0), value=self.pad)[:, :-k] * self.multipliers[k]
            columns.append(mix[..., None] % self.primes[(k - 1) * self.heads : k * self.heads])
        return torch.cat(columns, dim=-1) + self.column_offsets

    def forward(self, ids, x):
        memory = self.table(self.rows(ids)).flatten(-2)
        score = (self.query_norm(x) * self.key_norm(self.key(memory))).sum(-1, keepdim=True) / x.shape[-1] ** 0.5
        gated = torch.sigmoid(score) * self.value(memory)
        y = self.conv(self.conv_norm(gated).transpose(1, 2))[..., : x.shape[1]]
        return F.silu(y).transpose(1, 2) + gated


class Block(nn.Module):
    """Engram in one layer, then attention, then experts."""

    def __init__(self, c, engram):
        super().__init__()
        D, eps = c.hidden_size, c.rms_norm_eps
        self.engram = engram
        self.attn_norm, self.ffn_norm = nn.RMSNorm(D, eps=eps), nn.RMSNorm(D, eps=eps)
        self.attn, self.ffn = Attention(c.attention, D), Experts(c.experts, D)

    def forward(self, ids, x, rotate):
        if self.engram is not None:
            x = x + self.engram(ids, x)
        x = x + self.attn(self.attn_norm(x), rotate)
        return x + self.ffn(self.ffn_norm(x))


class Transformer(nn.Module):
    """The whole model, with tied embeddings: ids [B, T] -> logits [B, T, V]."""

    def __init__(self, config, hashing=()):
        super().__init__()
        c = self.c = config.backbone
        self.embed = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(
            Block(c, None if config.engram_layer(index) is None else Engram(config.engram, *hashing))
            for index in range(c.n_layers))
        self.norm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)

    def forward(self, ids):
        x, attention = self.embed(ids), self.c.attention
        rotate = Rotation(ids.shape[1], attention.qk_rope_head_dim, attention.rope_theta, x.dtype)
        for layer in self.layers:
            x = layer(ids, x, rotate)
        return F.linear(self.norm(x), self.embed.weight)


OWN_NAMES = {"engram.table": "engram.table.weight", "engram.key_weight": "engram.key.weight",
             "engram.value_weight": "engram.value.weight", "engram.query_gain": "engram.query_norm.weight",
             "engram.key_gain": "engram.key_norm.weight", "engram.conv_gain": "engram.conv_norm.weight",
             "engram.conv_weight": "engram.conv.weight", "ffn.gate.bias": "ffn.bias"}
"""End of a parameter's name in this package -> its name here, where they differ."""


def own_name(name):
    """Return the name of this package's parameter in the torch model."""
    for theirs, ours in OWN_NAMES.items():
        name = name.removesuffix(theirs) + ours if name.endswith(theirs) else name
    return name.replace("ffn.experts.", "ffn.")


def model_of(parameters, config, hashing=()):
    """Return the model with these NumPy parameters; hashing: multipliers [N] and primes [C] of the Engram module."""
    model = Transformer(config, hashing).to(torch.from_numpy(parameters["embed.weight"]).dtype)
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    own = {own_name(name): torch.tensor(array) for name, array in parameters.items()}
    model.load_state_dict({name: x.reshape(shapes[name]) for name, x in own.items()})
    return model


def step_of(model, lr, weight_decay, table_rate):
    """Return step(ids [B, T + 1]) -> loss, which updates the model: tables with table_rate * lr, without decay."""
    tables = [p for name, p in model.named_parameters() if name.endswith("engram.table.weight")]
    others = [p for name, p in model.named_parameters() if not name.endswith("engram.table.weight")]
    optimiser = torch.optim.AdamW([{"params": others}, {"params": tables, "lr": table_rate * lr, "weight_decay": 0.0}],
                                  lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)

    def step(ids):
        ids = torch.from_numpy(ids)
        optimiser.zero_grad()
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        return loss.item()

    return step
