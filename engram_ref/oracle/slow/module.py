"""The Engram module on nested lists, one position and one branch at a time."""

import math

CLAMP = 1e-6
FLOAT64_EPS = 2.0**-52


def dot(x, y):
    """Return the sum of the products, rounded once."""
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def times(weight, x):
    """Return weight [out][in] times x."""
    return [dot(line, x) for line in weight]


def linear(weight, bias, x):
    """Return weight [out][in] times x, plus bias."""
    return [math.fsum([b, *(w * a for w, a in zip(line, x, strict=True))])
            for line, b in zip(weight, bias, strict=True)]


def effective_gain(weight, form):
    """Return the gain of a stored weight: the weight itself ('plain') or 1 + weight ('zero_centred')."""
    return [1.0 + w for w in weight] if form == "zero_centred" else weight


def rms_norm(x, gain, eps):
    """Divide x by its root mean square and multiply each channel by its gain."""
    root = math.sqrt(dot(x, x) / len(x) + eps)
    return [a / root * g for a, g in zip(x, gain, strict=True)]


def score(h, key, query_gain, key_gain, eps):
    """Return the scaled dot product of the normalised hidden state and key."""
    query = rms_norm(h, query_gain, eps)
    return dot(query, rms_norm(key, key_gain, eps)) / math.sqrt(len(h))


def factored_score(h, key, query_gain, key_gain, eps):
    """Return the same score, with both norms applied after the dot product."""
    product = math.fsum(a * (g * f) * k for a, g, f, k in zip(h, query_gain, key_gain, key, strict=True))
    roots = [math.sqrt(dot(x, x) / len(x) + eps) for x in (h, key)]
    return product / roots[0] / roots[1] / math.sqrt(len(h))


def sigmoid(x):
    """Logistic function without overflow for large |x|."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    grown = math.exp(x)
    return grown / (1 + grown)


def root(s, form):
    """Return the argument of the gate's sigmoid for a score s.

    'sigmoid': s itself. 'signed_sqrt': clamped root times sign(s), where sign(0) is 0. 'copysign_sqrt': clamped root
    with the sign bit of s.
    """
    clamped = math.sqrt(max(abs(s), CLAMP))
    if form == "sigmoid":
        return s
    if form == "signed_sqrt":
        return clamped * ((s > 0) - (s < 0))
    if form == "copysign_sqrt":
        return math.copysign(clamped, s)
    raise ValueError(f"unknown gate form {form!r}")


def gate(s, form, dead=False):
    """Return alpha for a score s; a dead position has alpha 0."""
    return 0.0 if dead else sigmoid(root(s, form))


def silu(x):
    """Return x sigmoid(x)."""
    return x * sigmoid(x)


def short_conv(sequence, kernels, dilation):
    """Convolve each channel with its own causal kernel.

    `sequence` is [T][channels], `kernels` is [channels][taps]. The last tap multiplies the current position, the one
    before it the position `dilation` steps back. Positions before the sequence are zero.
    """
    taps = len(kernels[0])
    result = []
    for t in range(len(sequence)):
        sources = [t - (taps - 1 - tap) * dilation for tap in range(taps)]
        result.append([math.fsum(kernel[tap] * sequence[p][channel] for tap, p in enumerate(sources) if p >= 0)
                       for channel, kernel in enumerate(kernels)])
    return result


def next_taps(taps, sequence):
    """Return the inputs that the convolution of the next chunk needs: as many as before, oldest first."""
    return (taps + sequence)[len(sequence) :]


def gather(table, rows, offsets):
    """Return the concatenated table rows of one position."""
    memory = []
    for row, offset in zip(rows, offsets, strict=True):
        memory += table[offset + row]
    return memory


def gated_values(parameters, memory, hidden, eps, form):
    """Return alpha * value for every branch of one position: [M][d]; `parameters` have the demo's names."""
    p = parameters
    value = linear(p["value_proj.weight"], p["value_proj.bias"], memory)
    branches = []
    for m, h in enumerate(hidden):
        key = linear(p[f"key_projs.{m}.weight"], p[f"key_projs.{m}.bias"], memory)
        gains = p[f"norm2.{m}.weight"], p[f"norm1.{m}.weight"]
        alpha = gate(score(h, key, *gains, eps), form)
        branches.append([alpha * v for v in value])
    return branches


def normalised_flat(parameters, branches, eps):
    """Normalise each branch separately and concatenate the results."""
    flat = []
    for m, u in enumerate(branches):
        flat += rms_norm(u, parameters[f"short_conv.norms.{m}.weight"], eps)
    return flat


def add_branches(branches, flat):
    """Add a branch-major flat vector to the [M][d] branches."""
    d = len(branches[0])
    return [[a + b for a, b in zip(u, flat[m * d : (m + 1) * d], strict=True)] for m, u in enumerate(branches)]


def with_conv(parameters, gated, eps, dilation):
    """Return SiLU(conv(RMSNorm(u))) + u for the gated values u, [T][M][d]."""
    flat = [normalised_flat(parameters, u, eps) for u in gated]
    kernels = [channel[0] for channel in parameters["short_conv.conv.weight"]]
    convolved = short_conv(flat, kernels, dilation)
    return [add_branches(u, [silu(c) for c in line]) for u, line in zip(gated, convolved, strict=True)]
