"""Check these slow answers against published numbers.

    python -m tests.slow.selfcheck KNOWN_ANSWERS_FOLDER [CANONICAL_MAP_JSON]

The map is a JSON list, canonical id by raw DeepSeek-V3 id; without it the
rows of the small demo module are taken from its file and not recomputed.
"""

import hashlib
import json
import sys
from pathlib import Path

from . import hashing, module
from . import primes as prime_search


def digest(numbers):
    raw = b"".join(n.to_bytes(8, "little", signed=True) for n in numbers)
    return hashlib.sha256(raw).hexdigest()


def flatten(nested):
    if not isinstance(nested, list):
        return [nested]
    return [item for part in nested for item in flatten(part)]


def flat_rows(ids, history, multipliers, primes, heads, fill_id):
    """[T][layer][C] rows with offsets, for several layers."""
    layers = []
    for factors, columns in zip(multipliers, primes, strict=True):
        orders = prime_search.by_order(columns, heads)
        found = hashing.rows(ids, history, factors, orders, fill_id)
        starts = prime_search.offsets(columns)
        layers.append([[r + s for r, s in zip(line, starts, strict=True)] for line in found])
    return [list(position) for position in zip(*layers, strict=True)]


def check_v41(folder):
    known = json.loads((folder / "deepseek-v4.1-addressing.json").read_text())
    c = known["config"]
    order, heads = c["max_ngram_size"], c["n_heads"]
    multipliers = [
        hashing.pcg_multipliers(0, layer, order, c["compressed_vocab_size"]) for layer in c["layer_ids"]
    ]
    primes = prime_search.table_primes([c["vocab_size"]] * (order - 1), heads, 2)
    starts = [prime_search.offsets(columns) for columns in primes]
    arguments = multipliers, primes, heads, c["pad_token_id"]
    first = flat_rows([0, 3], [-1] * 3, *arguments)
    step = flat_rows([15], [-1, 0, 3], *arguments)
    assert multipliers == known["multipliers"]
    assert primes == known["primes"]
    assert [sum(columns) for columns in primes] == c["num_embeddings"]
    computed = [digest(flatten(x)) for x in (multipliers, primes, starts, first, step)]
    assert computed == list(known["digests"].values())
    samples = [first[0][0], first[1][0], first[0][1]]
    expected = list(known["first_rows"].values())[1:]
    # The samples are the first three columns.
    assert [line[:3] for line in samples] == expected


def check_qwen(folder):
    known = json.loads((folder / "qwen4exp-addressing.json").read_text())
    found = hashing.splitmix_multipliers(known["seed"], 0, 3, known["vocab_size"])
    assert found == known["multipliers"]
    (primes,) = prime_search.table_primes([20_000_000] * 2, 8, 1)
    assert primes == known["primes"]
    assert sum(primes) == known["rows"]
    assert -(-sum(primes) // 128) * 128 == known["rows_padded_to_128"]


def load_demo(folder):
    """The small module's configuration and its tensors as nested lists."""
    from safetensors import safe_open

    with safe_open(folder / "demo-module.safetensors", "np") as file:
        names = file.keys()
        config = json.loads(file.metadata()["config"])
        return config, {name: file.get_tensor(name).tolist() for name in names}


def check_demo_rows(config, primes, tensors, canonical):
    order, heads = config["max_ngram"], config["heads"]
    size = max(canonical) + 1
    multipliers = hashing.pcg_multipliers(config["seed"], config["layer"], order, size)
    orders = prime_search.by_order(primes, heads)
    fill = canonical[config["pad_id"]]
    for raw, expected in zip(tensors["input_ids"], tensors["rows"], strict=True):
        ids = [canonical[token] for token in raw]
        assert hashing.rows(ids, [], multipliers, orders, fill) == expected


def check_demo_output(config, primes, tensors):
    """Largest error, over the largest output and over the output itself.

    The second is the larger: an output is a sum of two terms, and where they
    nearly cancel the rounding of the recorded value itself shows.
    """
    prefix = "parameters."
    parameters = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    starts = prime_search.offsets(primes)
    found = [
        module.engram_module(parameters, hidden, rows, starts, config["max_ngram"])
        for hidden, rows in zip(tensors["hidden"], tensors["rows"], strict=True)
    ]
    expected = flatten(tensors["output"])
    errors = [abs(a - b) for a, b in zip(flatten(found), expected, strict=True)]
    by_scale = max(errors) / max(map(abs, expected))
    by_element = max(e / abs(b) for e, b in zip(errors, expected, strict=True))
    assert by_scale < 2e-15 and by_element < 1e-12, (by_scale, by_element)
    return by_scale, by_element


def main():
    folder = Path(sys.argv[1])
    check_v41(folder)
    print("V4.1 addressing: multipliers, primes, offsets, rows agree")
    check_qwen(folder)
    print("Qwen addressing: multipliers, primes agree")
    config, tensors = load_demo(folder)
    (primes,) = prime_search.table_primes(config["table_sizes"], config["heads"], len(config["layer_ids"]))
    if len(sys.argv) > 2:
        check_demo_rows(config, primes, tensors, json.loads(Path(sys.argv[2]).read_text()))
        print("demo module: rows agree")
    else:
        print("demo module: rows not recomputed, no map given")
    by_scale, by_element = check_demo_output(config, primes, tensors)
    print(f"demo module: output agrees, error {by_scale:.1e} of the largest, {by_element:.1e} of its own")


if __name__ == "__main__":
    main()
