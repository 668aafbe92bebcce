"""The rows of the model: the Engram module, its convolution, experts, latent attention; and importing the package."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np

from engram_ref.backends.numba import _buffers
from engram_ref.bench import limits
from engram_ref.bench.case import NEW_MEMORY, NO_OUT, OURS, Case, Comparison
from engram_ref.bench.limits import aligned
from engram_ref.bench.setting import Setting, load_baselines
from engram_ref.bench.timing import Work, can_reset, extra, fresh
from engram_ref.config import EngramConfig
from engram_ref.layout import layout
from engram_ref.model.engram import engram
from engram_ref.model.engram_parameters import initialise
from engram_ref.model_config import AttentionConfig, ExpertsConfig
from engram_ref.model_presets import model_preset
from engram_ref.ops import route
from engram_ref.ops.rope import softmax_scale
from engram_ref.presets import preset

MODULE, CONV1D, SHIFTS = "the torch module", "torch Conv1d with transposes", "torch shifts"
LOOP, EXPANDED, NUMPY = "a torch expert loop", "our expanded form", "import numpy"
SGEMM, GEMMS, TORCH_GEMMS = "the bare matrix product", "the bare matrix products", "torch's bare matrix products"
OUTPUT, STREAM, READ = "the output", "copying the input", "reading weights and latents"
TOKENS = (4096, 37)     # full, quick
HEAVY = ("numba", "torch", "matplotlib", "tokenizers")      # importing the package must not load these
STARTS = 15             # minimum number of fresh processes
WARM = (1024, 9)        # tokens of the call that compiles: large enough for the code path of large inputs

Arrays = Mapping[str, np.ndarray]


def forward(setting: Setting) -> Iterator[Case]:
    """The Engram module, from rows and hidden state to Y."""
    config, parameters, hidden, rows = inputs(setting, setting.size(*TOKENS))
    rng, width = np.random.default_rng(8), config.memory_width
    memory, weight = normal(rng, rows.shape[1], width), normal(rng, (config.n_branches + 1) * config.hidden_size, width)
    ours = partial(engram, parameters, hidden, rows, config, ops=setting.ops, check=False)
    yield Case("Engram forward", sizes_of(config, rows), setting.threads, {
        OURS: ours, NEW_MEMORY: lambda: (_buffers.release(), ours())[1],
        MODULE: setting.baseline(lambda base: partial(torch_module(base, parameters, config), rows, hidden), "torch"),
        SGEMM: partial(np.matmul, memory, weight.T, out=np.zeros((len(memory), len(weight)), np.float32)),
    }, [Comparison("speedup", MODULE, 3.5), Comparison("speedup", MODULE, of=NEW_MEMORY),
        Comparison("limit", SGEMM, 0.8), Comparison("limit", SGEMM, of=NEW_MEMORY)], uses_blas=True)


def memory(setting: Setting) -> Iterator[Case]:
    """Peak extra memory of the Engram module's forward."""
    config, tokens = module_config(setting), setting.size(*TOKENS)
    output = 4 * tokens * config.n_branches * config.hidden_size
    sizes = {"tokens": tokens, "hidden size": config.hidden_size, "branches": config.n_branches,
             "output bytes": output}
    variants = {OURS: partial(peaks_elsewhere, setting, OURS),
                MODULE: setting.baseline(lambda _: partial(peaks_elsewhere, setting, MODULE), "torch")}
    if not can_reset():
        variants = dict.fromkeys(variants, "needs Linux, which reports peak memory")
    variants[OUTPUT] = lambda rounds: [float(output)] * rounds
    yield Case("Engram forward, extra memory", sizes, setting.threads, variants, [
        Comparison("memory", OUTPUT, 2.0), Comparison("memory", OUTPUT, of=MODULE), Comparison("limit", OUTPUT),
    ], unit="B", collect=lambda available, rounds: {name: peaks(rounds) for name, peaks in available.items()},
        note="the extra memory includes the output")


def peaks_elsewhere(setting: Setting, variant: str, rounds: int) -> list[float]:
    """`peaks`, measured in a fresh process."""
    call = f"model.peaks(Setting(quick={setting.quick}, threads={setting.threads}), {variant!r}, {rounds})"
    return json.loads(fresh("from engram_ref.bench import model; from engram_ref.bench.setting import Setting; "
                            f"print({call})"))


def peaks(setting: Setting, variant: str, rounds: int) -> list[int]:
    """Peak extra memory in bytes of one variant's forward, in each round."""
    config, parameters, hidden, rows = inputs(setting, setting.size(*TOKENS))
    if variant == OURS:
        run = partial(engram, parameters, config=config, ops=setting.ops, check=False)
    else:
        run = torch_module(load_baselines(), parameters, config)
    few = setting.size(*WARM)
    with setting.using(setting.threads):
        run(hidden=hidden[:, :few], rows=rows[:, :few])
        extras = []
        for _ in range(rounds):
            _buffers.release()
            extras.append(extra(partial(run, hidden=hidden, rows=rows)))
        return extras


def conv(setting: Setting) -> Iterator[Case]:
    """The dilated convolution and SiLU over all channels."""
    config, rng = module_config(setting), np.random.default_rng(9)
    M, D, L, dilation = config.n_branches, config.hidden_size, config.conv_kernel, config.conv_dilation
    x = normal(rng, 1, setting.size(*TOKENS), M, D)
    weight = rng.uniform(-0.5, 0.5, (M, D, L)).astype(np.float32)
    ours = partial(setting.ops.conv_silu, x, weight, dilation, np.zeros((1, config.conv_span, M, D), np.float32))
    sizes = {"tokens": x.shape[1], "channels": M * D, "kernel": L, "dilation": dilation}
    yield Case("convolution and SiLU", sizes, setting.threads, {
        OURS: partial(ours, out=aligned(x.shape, np.float32)), NO_OUT: ours,
        CONV1D: setting.baseline(lambda base: base.torch_conv(x, weight, dilation), "torch"),
        SHIFTS: setting.baseline(lambda base: base.torch_shifts(x, weight, dilation), "torch"),
        STREAM: limits.copy(aligned(x.shape, np.float32), x, setting.threads),
    }, [Comparison("speedup", CONV1D, 30.0), Comparison("speedup", SHIFTS, 8.0),
        Comparison("speedup", SHIFTS, of=NO_OUT), Comparison("limit", STREAM)])


def inputs(setting: Setting, tokens: int) -> tuple[EngramConfig, Arrays, np.ndarray, np.ndarray]:
    """Configuration, float32 parameters, hidden [1, T, M, D] and rows [1, T, C] of one module."""
    config, rng = module_config(setting), np.random.default_rng(7)
    layer = config.layer_ids[0]
    parameters = initialise(config, layer, rng, np.float32)
    hidden = normal(rng, 1, tokens, config.n_branches, config.hidden_size)
    return config, parameters, hidden, rng.integers(0, layout(config, layer).primes, (1, tokens, config.columns))


def module_config(setting: Setting) -> EngramConfig:
    """The paper's module with tables that fit into memory and nonzero convolution weights."""
    table, small = setting.size((50_021, {}), (997, {"hidden_size": 48, "row_width": 8}))
    return replace(preset("engram-27b"), name="engram-27b, small tables", table_sizes=(table, table),
                   conv_init="uniform", **small)


def torch_module(baselines: ModuleType, parameters: Arrays, config: EngramConfig) -> Work:
    """The torch module with our parameters; its arguments are rows and hidden."""
    return baselines.torch_engram(parameters, config.norm_eps, config.conv_norm_eps, config.conv_dilation)


def sizes_of(config: EngramConfig, rows: np.ndarray) -> dict[str, int | str]:
    """The sizes that determine the module's work."""
    return {"tokens": rows.shape[1], "hidden size": config.hidden_size, "memory width": config.memory_width,
            "branches": config.n_branches, "dtype": "float32"}


def experts(setting: Setting) -> Iterator[Case]:
    """Routing and routed experts of one layer, without a shared expert."""
    tokens, D, E, F = setting.size((4096, 1024, 64, 704), (33, 40, 8, 24))
    config, rng = ExpertsConfig(E, 6, 0, F, routed_scaling_factor=2.5), np.random.default_rng(10)
    parameters = {"gate.weight": normal(rng, E, D, fan_in=D), "gate.bias": np.zeros(E, np.float32),
                  "experts.w1": normal(rng, E, F, D, fan_in=D), "experts.w2": normal(rng, E, D, F, fan_in=F),
                  "experts.w3": normal(rng, E, F, D, fan_in=D)}
    x, per_token = normal(rng, 1, tokens, D), config.num_experts_per_tok
    served = parameters, x[0], route(parameters, x[0], config)[0]
    sizes = {"tokens": tokens, "experts": E, "experts per token": per_token, "hidden size": D, "expert width": F,
             "dtype": "float32"}
    yield Case("mixture of experts", sizes, setting.threads, {
        OURS: partial(setting.ops.moe, parameters, x, config),
        LOOP: setting.baseline(lambda base: base.torch_experts(parameters, x, per_token, config.routed_scaling_factor),
                               "torch"),
        GEMMS: bare_products(np.matmul, np.asarray, *served),
        TORCH_GEMMS: setting.baseline(lambda base: torch_products(*served), "torch"),
    }, [Comparison("speedup", LOOP, 1.3), Comparison("speedup", LOOP, of=GEMMS), Comparison("limit", GEMMS, 0.75),
        Comparison("limit", TORCH_GEMMS)], uses_blas=True)


def torch_products(parameters: Arrays, x: np.ndarray, chosen: np.ndarray) -> Work:
    """The same products in torch, which uses a different BLAS library."""
    import torch

    return bare_products(torch.mm, torch.from_numpy, parameters, x, chosen)


def bare_products(matmul: Callable, convert: Callable, parameters: Arrays, x: np.ndarray, chosen: np.ndarray) -> Work:
    """The three matrix products of every expert with its tokens, into preallocated arrays."""
    w1, w2, w3 = (convert(parameters[f"experts.w{i}"]) for i in (1, 2, 3))
    parts = [convert(np.ascontiguousarray(x[(chosen == e).any(axis=1)])) for e in range(len(w1))]
    most = max(map(len, parts))
    inner, outer = (convert(np.zeros((most, width), np.float32)) for width in w1.shape[1:])

    def run() -> None:
        for e, part in enumerate(parts):
            n = len(part)
            matmul(part, w1[e].T, out=inner[:n])
            matmul(part, w3[e].T, out=inner[:n])
            matmul(inner[:n], w2[e].T, out=outer[:n])

    return run


def latent_attention(setting: Setting) -> Iterator[Case]:
    """Attend from one new token to cached latents, in this package's absorbed and expanded forms."""
    config = setting.size(model_preset("mhc-3b"), model_preset("tiny")).backbone.attention
    for cached, goal in zip(setting.size((1024, 4096), (33, 70)), (15.0, 25.0), strict=True):
        arguments = step_of(config, cached)
        sizes = {"cached tokens": cached, "new tokens": 1, "heads": config.n_heads,
                 "latent width": config.kv_lora_rank, "head width": config.qk_nope_head_dim,
                 "rotary width": config.qk_rope_head_dim, "dtype": "float32"}
        yield Case(f"latent attention, decode after {cached:,} tokens", sizes, setting.threads, {
            OURS: partial(setting.ops.attend_absorbed, *arguments),
            EXPANDED: partial(setting.ops.attend_expanded, *arguments),
            GEMMS: attention_products(*arguments[:6]),
            READ: limits.read_all(aligned((sum(x.nbytes for x in arguments[2:6]) // 8,), np.int64), setting.threads),
        }, [Comparison("speedup", EXPANDED, goal), Comparison("speedup", GEMMS), Comparison("limit", READ)],
            uses_blas=True)


def attention_products(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
                       w_uv: np.ndarray) -> Work:
    """The matrix products of the absorbed form for one token, into preallocated arrays; no softmax."""
    nope, pe, c, k = q_nope.reshape(-1, 1, q_nope.shape[3]), q_pe[0, 0], c_kv[0], k_pe[0]
    A, S, r, dv = len(nope), *c.shape, w_uv.shape[1]
    latent, scores, rotary, context, heads = (np.zeros(shape, np.float32) for shape in
                                              ((A, 1, r), (A, S), (A, S), (A, r), (A, 1, dv)))

    def run() -> None:
        np.matmul(nope, w_uk, out=latent)
        np.matmul(latent[:, 0], c.T, out=scores)
        np.matmul(pe, k.T, out=rotary)
        np.matmul(scores, c, out=context)
        np.matmul(context[:, None], w_uv.swapaxes(1, 2), out=heads)

    return run


def step_of(config: AttentionConfig, cached: int) -> tuple:
    """The arguments of attend_absorbed and attend_expanded for one new token after `cached` tokens."""
    A, r, dn, dr = config.n_heads, config.kv_lora_rank, config.qk_nope_head_dim, config.qk_rope_head_dim
    rng = np.random.default_rng(11)
    return (normal(rng, 1, 1, A, dn), normal(rng, 1, 1, A, dr), normal(rng, 1, cached, r), normal(rng, 1, cached, dr),
            normal(rng, A, dn, r, fan_in=r), normal(rng, A, config.v_head_dim, r, fan_in=r),
            np.ones((1, 1, cached), dtype=bool), softmax_scale(config.qk_head_dim, config.yarn))


def imports(setting: Setting) -> Iterator[Case]:
    """A process that imports NumPy and this package, against one that imports only NumPy."""
    loaded = ", ".join(fresh(f"import sys, engram_ref; print(*sorted(set({HEAVY}) & set(sys.modules)))").split())
    starts = setting.size(max(setting.rounds, STARTS), setting.rounds)
    with tempfile.TemporaryDirectory() as folder:       # for bytecode, which the first call of each variant writes
        start = partial(fresh, PYTHONPYCACHEPREFIX=folder, PYTHONDONTWRITEBYTECODE="")
        yield Case("import", {"processes per variant": starts}, 1,
                   {OURS: partial(start, "import numpy, engram_ref"), NUMPY: partial(start, "import numpy")},
                   [Comparison("delay", NUMPY, 15.0)], rounds=starts,
                   failure=f"it also loads {loaded}" if loaded else "",
                   note="" if loaded else f"it loads none of {', '.join(HEAVY)}")


def normal(rng: np.random.Generator, *shape: int, fan_in: int = 1) -> np.ndarray:
    """N(0, 1 / fan-in), float32, aligned."""
    array = aligned(shape, np.float32)
    rng.standard_normal(out=array, dtype=np.float32)
    array /= np.float32(fan_in**0.5)
    return array
