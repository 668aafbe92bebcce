"""Integers: text to canonical ids, multipliers, primes, windows, rows, caches."""

from dataclasses import replace

import numpy as np

from engram_ref.addressing import Addressing, addressing_of
from engram_ref.ops import DEAD
from engram_ref.oracle.slow import addressing as slow_addressing
from engram_ref.oracle.slow import hashing, primes
from engram_ref.presets import preset, presets
from scripts.builders.planned import case, rng_of
from scripts.builders.small_modules import DEMO, QWEN, V41
from scripts.builders.streams import STEPS, columns_of, history_of, marked, marks_in, stream_case

BOTH_MARKS = replace(QWEN, name="both-marks", pad_id=7, dead_barrier=True, max_ngram=4, table_sizes=(23, 31, 37))
"""A dialect with DEAD and EOS; EOS replaces hidden tokens, so the pad id never appears."""

NORMALISED = {
    "accents": (" Caf\u00e9\n", "cafe"), "blanks": ("\t ", " "), "full-width": ("\uff34\uff28\uff25", "the"),
    "final-sigma": ("\u03a3\u0391\u03a3", "\u03c3\u03b1\u03c3"), "ligature": ("\ufb01\u2460", "fi1"),
    "enclosing-mark": ("a\u20dd b", "a b"), "separator-stays": ("\x1ca ", "\x1ca"), "no-break": ("\u00a0x\u3000", "x"),
    "empty": ("", ""), "inner-blanks": ("a \t\r\n b", "a b"),
}
"""Title -> text and its normalised form, derived by hand."""

KEYS = {"word": (" The", "\u0120The", "the"), "broken-bytes": ("\ufffd", "\u00c3", "\u00c3"),
        "nothing-left": ("\u0301", "\u00cc\u0123", "\u0301"), "blank": (" ", "\u0120", " ")}


def text():
    """Yield cases for normalisation and the canonical map, with answers derived by hand."""
    for title, (before, after) in NORMALISED.items():
        yield case(f"normalise/{title}", slow=lambda text, after=after: after, text=before)
    for title, (shown, raw, key) in KEYS.items():
        yield case(f"canonical_key/{title}", slow=lambda text, raw_token, key=key: key, text=shown, raw_token=raw)
    tokens = [["The", "The"], [" the", "\u0120the"], ["cat", "cat"], ["\ufffd", "\u00c3"], ["\u00e3", "\u00c3x"],
              ["\u00c3", "\u00c3y"], ["a", "a"], ["A\u0301", "b"]]
    yield case("canonical_map/classes", slow=lambda tokens: [0, 0, 1, 2, 3, 3, 3, 3], tokens=tokens)


def canonical():
    """Yield cases for mapping ids and for marking DEAD positions."""
    table = np.array([0, 0, 1, 2, 1, 3])
    look_up = lambda ids, canonical: [DEAD if i == DEAD else canonical[i] for i in ids.ravel()]
    for title, ids, flags in (("batch", [[1, 5, 0], [4, DEAD, 2]], "dead batch"), ("empty", [[]], "empty")):
        yield case(f"canonicalise/{title}", slow=look_up, flags=flags, ids=np.array(ids, dtype=np.int64),
                   canonical=table)
    mark = lambda ids, dead: [DEAD if d else i for i, d in zip(ids.ravel(), dead.ravel(), strict=True)]
    yield case("mark_dead/batch", slow=mark, flags="dead", ids=np.array([[3, 4], [5, 6]]),
               dead=np.array([[False, True], [True, False]]))


def multipliers():
    """Yield cases for both generators, for seeds and sizes of the presets and for unusual ones."""
    for seed, index, n, size in ((0, 1, 4, 99_092), (0, 15, 3, 98_627), (7, 2, 1, 300), (123_456_789_012, 0, 2, 61)):
        for name, slow in (("pcg64", hashing.pcg_multipliers), ("splitmix64", hashing.splitmix_multipliers)):
            yield case(f"{name}_multipliers/seed-{seed}-index-{index}", slow=lambda slow=slow, **a: slow(*a.values()),
                       seed=seed, index=index, max_ngram=n, canonical_size=size)
    yield case("splitmix64_multipliers/qwen", slow=lambda **a: hashing.splitmix_multipliers(*a.values()), seed=1234,
               index=0, max_ngram=3, canonical_size=248_320, dialect="qwen4exp-ple", flags="dialect")


def prime_numbers():
    """Yield cases for primality and table sizes."""
    known = {0: False, 1: False, 2: True, 9: False, 561: False, 7919: True, 3_215_031_751: False, 2**31 - 1: True,
             3_825_123_056_546_413_051: False, 2**61 - 1: True}       # two of them pass some Miller-Rabin bases
    for n, answer in known.items():
        yield case(f"is_prime/{n}", slow=lambda n, answer=answer: answer if n > 2**40 else primes.is_prime(n), n=n)
    for title, sizes, heads, layers in (("shared", (7, 7), 2, 2), ("orders", (23, 31, 37), 3, 1),
                                        ("two", (1, 2), 1, 3)):
        yield case(f"table_primes/{title}", slow=lambda table_sizes, n_heads, n_layers: primes.table_primes(
            table_sizes, n_heads, n_layers), table_sizes=sizes, n_heads=heads, n_layers=layers)
    yield case("column_offsets/two-layers", flags="flat", primes=np.array([[7, 11, 13], [17, 19, 23]]),
               slow=lambda primes: [[0, 7, 18], [0, 17, 36]])


def hashed():
    """Yield cases for windows, mixes, rows and histories, small enough to check by hand."""
    streams = {
        "dead": ([[5, 6, DEAD, 7, 8]], [[DEAD, DEAD]], None, "dead"), "empty": ([[]], [[1, 2]], None, "empty"),
        "one-token": ([[4]], [[DEAD, 3]], None, "one-token history"),
        "short": ([[4, 5]], [[1, DEAD, 3]], None, "short"),
        "batch": ([[4, 9, 5], [9, 9, 1]], [[1, 2], [DEAD, 9]], 9, "eos batch history"),
        "eos-then-dead": ([[9, DEAD, 4, 5, 6]], [[1, 2, 3]], 9, "eos dead"),
        "dead-then-eos": ([[DEAD, 4, 9, 5, 6]], [[1, 2, 3]], 9, "eos dead"),
        "marks-in-history": ([[4, 5]] * 4, [[9, DEAD, 7], [DEAD, 9, 7], [DEAD, DEAD, 3], [8, 9, DEAD]], 9,
                             "eos dead batch history"),
        "no-rows": (np.zeros((0, 3)), np.zeros((0, 2)), None, "empty"),
    }
    constants = {"multipliers": [2**62 - 57, -(2**61) + 1, 3, 12_345_678_901], "primes": [11, 13, 17, 19, 23, 29]}
    for title, (ids, history, eos, flags) in streams.items():
        ids, history = np.array(ids, dtype=np.int64), np.array(history, dtype=np.int64)
        n = history.shape[1] + 1
        m, p = np.array(constants["multipliers"][:n]), np.array(constants["primes"][: 2 * (n - 1)])
        shared = {"ids": ids, "history": history, "pad_id": 2, "eos_id": eos}
        yield case(f"windows/{title}", slow=slow_windows, flags=flags, **shared)
        windows = np.array(slow_windows(**shared), dtype=np.int64).reshape(*ids.shape, n)
        mixes = np.array(slow_mix(windows, m), dtype=np.int64).reshape(*ids.shape, n - 1)
        wrapped = "negative-mix" if (mixes < 0).any() else "empty"
        yield case(f"mix/{title}", slow=slow_mix, flags=wrapped, windows=windows, multipliers=m)
        yield case(f"table_rows/{title}", slow=slow_table_rows, flags=wrapped, mixes=mixes, primes=p)
        yield case(f"next_history/{title}", flags=flags, history=history, ids=ids, slow=lambda history, ids: [
            (h + i)[len(i):] for h, i in zip(history.tolist(), ids.tolist(), strict=True)])
        for form, offsets in (("rows", None), ("flat", np.cumsum(p) - p)):
            yield case(f"address/{title}-{form}", slow=slow_address, traced=True,
                       flags=f"{flags} {wrapped}" + " flat" * (form == "flat"), multipliers=m, primes=p,
                       offsets=offsets, **shared)
    yield from layers_and_steps(constants)


def streams():
    """Yield streams of rows in dialects with neither DEAD nor EOS, with one of them, and with both."""
    for config in (replace(DEMO, dead_barrier=False), V41, QWEN, BOTH_MARKS):
        constants, layer = addressing_of(config), config.layer_ids[0]
        documents = {} if config.eos_id is None else {"documents": ("", [["main", "feed", T] for T in (4, 1, 6, 3)])}
        for title, (flags, steps) in (STEPS | documents).items():
            if title == "one-by-one-dead":          # ids contain their marks: "one-by-one" has them too
                continue
            name = f"addressing_stream/{config.name}-{title}"
            ids = marked(name, config, (2, columns_of(steps)))
            if title == "documents":
                ids[ids == config.eos_id] = 0
                ids[0, [3, 4, 9, 13]] = ids[1, [0, 1, 4, 10]] = config.eos_id
            yield stream_case(name, "rows", 2, steps, lambda canonical_ids, config, layer_id, steps, a=constants: (
                slow_addressing.rows(config, layer_id, canonical_ids[0].tolist(), a.pad_id, (), a.eos_id),
                {"history": history_of(canonical_ids[0], config)}),
                {"canonical_ids": ids}, f"history dialect {flags}", ["history"], dialect=config.name,
                config=config, layer_id=layer)


def prefixes():
    """Yield streams that start after raw ids, with a vocabulary and without; the two texts differ in length."""
    for config in (V41, QWEN):
        constants, name = addressing_of(config), f"addressing_stream/{config.name}-prefix"
        before = [text.tolist() for text in np.split(rng_of(name).integers(0, config.vocab_size, 6), [1])]
        steps = [["main", "prefix", before], ["main", "feed", 1], ["main", "feed", 3]]
        texts = before if constants.canonical is None else [constants.canonical[ids].tolist() for ids in before]
        ids = marked(name, config, (2, 4))
        flags = ["prefix history chunked dialect", *marks_in({"canonical_ids": ids}, config)]
        yield case(name, outputs=("0.history", "1.rows", "1.history", "2.rows", "2.history"), kind_of_case="schedules",
                   flags=" ".join(flags), dialect=config.name, config=config, steps=steps, canonical_ids=ids,
                   layer_id=config.layer_ids[0],
                   slow=lambda canonical_ids, config, layer_id, steps, texts=texts, a=constants: after_prefix(
                       texts, canonical_ids.tolist(), lambda read: slow_addressing.rows(
                           config, layer_id, read, a.pad_id, (), a.eos_id), config))


def after_prefix(texts, ids, rows_of, config):
    """Return histories and rows of the two feeds, of 1 and 3 tokens."""
    longer = [[text + line[:n] for text, line in zip(texts, ids, strict=True)] for n in (0, 1, 4)]
    stages = {f"{i}.history": [history_of(text, config) for text in part] for i, part in enumerate(longer)}
    rows = lambda i, n: [row for text in longer[i] for row in rows_of(text)[-n:]]
    return stages | {"1.rows": rows(1, 1), "2.rows": rows(2, 3)}


def layers_and_steps(constants):
    """Yield cases for the composites: all layers at once from raw ids, and one decode step."""
    m, p = np.array(constants["multipliers"][:3]), np.array(constants["primes"][:4])
    shared = {"pad_id": 1, "eos_id": 3}
    raw, history = np.array([[5, DEAD, 2, 4, 0]]), np.array([[3, 1]])
    table = np.array([0, 1, 1, 2, 3, 4])
    starts = np.array([[0, 11, 24, 41], [0, 1, 2, 3]])
    for title, canonical, offsets in (("map", table, None), ("raw-flat", None, starts)):
        yield case(f"address_layers/{title}", slow=slow_layers, flags="dead eos" + " flat" * (offsets is not None),
                   ids=raw, canonical=canonical, history=history, multipliers=np.stack([m, m + 2]),
                   primes=np.stack([p, p + 100]), offsets=offsets,
                   **shared)
    yield case("stepper/batch", flags="one-token history dead eos", multipliers=m, primes=p, ids=np.array([4, DEAD]),
               history=np.array([[3, 1], [2, 0]]), **shared, slow=lambda ids, history, **a: slow_address(
                   ids[:, None], history, offsets=None, **a)["output"])


def slow_windows(ids, history, pad_id, eos_id):
    n = history.shape[1] + 1
    return [[hashing.window(line, before, t, n, pad_id, eos_id) for t in range(len(line))]
            for line, before in zip(ids.tolist(), history.tolist(), strict=True)]


def slow_mix(windows, multipliers):
    mixes = []
    for window in windows.reshape(-1, windows.shape[-1]).tolist():
        mixed = hashing.wrap64(window[0] * int(multipliers[0]))
        for token, multiplier in zip(window[1:], multipliers.tolist()[1:], strict=True):
            mixed ^= hashing.wrap64(token * multiplier)
            mixes.append(mixed)
    return mixes


def slow_table_rows(mixes, primes):
    heads = len(primes) // mixes.shape[-1]
    return [[m % p for n, m in enumerate(line) for p in primes.tolist()[n * heads : (n + 1) * heads]]
            for line in mixes.reshape(-1, mixes.shape[-1]).tolist()]


def slow_address(ids, history, multipliers, primes, offsets, pad_id, eos_id):
    """Return the stage `rows`, without offsets, and the output, with offsets."""
    heads = len(primes) // (len(multipliers) - 1)
    orders = [primes.tolist()[i : i + heads] for i in range(0, len(primes), heads)]
    rows = [hashing.rows(line, before, multipliers.tolist(), orders, pad_id, eos_id)
            for line, before in zip(ids.tolist(), history.tolist(), strict=True)]
    shift = [0] * len(primes) if offsets is None else offsets.tolist()
    flat = [[[r + o for r, o in zip(line, shift, strict=True)] for line in row] for row in rows]
    return {"rows": rows, "output": flat}


def slow_layers(ids, canonical, history, multipliers, primes, offsets, pad_id, eos_id):
    hashed = ids if canonical is None else np.array([[DEAD if i == DEAD else canonical[i] for i in ids[0]]])
    return [slow_address(hashed, history, m, p, None if offsets is None else offsets[y], pad_id, eos_id)["output"]
            for y, (m, p) in enumerate(zip(multipliers, primes, strict=True))]


def addressing():
    """Yield constants of each layer and a few rows, for every preset at full size and a dialect with DEAD and EOS."""
    for config in (*map(preset, presets()), BOTH_MARKS):
        name, rng = config.name, rng_of(config.name)
        ids = rng.integers(0, config.canonical_size, (2, 6))
        ids[1, 3] = DEAD if config.dead_barrier else ids[1, 3]
        if config.eos_id is not None:
            ids[0, 2] = config.eos_id
        history = rng.integers(0, config.canonical_size, (2, config.max_ngram - 1))
        history[1, 0] = DEAD
        pads = Addressing(config).pad_id, Addressing(config).eos_id
        marks = "dead " * config.dead_barrier + "eos " * (config.eos_id is not None)
        for layer in config.layer_ids:
            yield case(f"addressing/{name}-layer-{layer}", dialect=name, flags=f"{marks}dialect flat history",
                       outputs=("multipliers", "primes", "offsets", "table_rows", "rows"), config=config,
                       canonical_ids=ids, layer_id=layer, history=history, flat=True,
                       slow=lambda pads=pads, **a: slow_constants(pads, **a))
        yield case(f"addressing/{name}-start", dialect=name, flags="dialect short", config=replace(config),
                   outputs=("multipliers", "primes", "offsets", "table_rows", "rows"), canonical_ids=ids[:, :1],
                   layer_id=config.layer_ids[0], history=None, flat=False,
                   slow=lambda pads=pads, **a: slow_constants(pads, **a))


def slow_constants(pads, config, canonical_ids, layer_id, history, flat):
    columns = slow_addressing.table_primes(config)[layer_id]
    before = [()] * len(canonical_ids) if history is None else history.tolist()
    rows = [slow_addressing.rows(config, layer_id, line, pads[0], h, pads[1], flat)
            for line, h in zip(canonical_ids.tolist(), before, strict=True)]
    stored = -(-sum(columns) // config.row_multiple) * config.row_multiple
    return slow_addressing.multipliers(config)[layer_id], columns, primes.offsets(columns), stored, rows


def caches():
    """Yield cases for caches whose rows differ in length: positions, writing, reading; and for sampling."""
    lengths, cache = np.array([2, 0, 3]), np.arange(18).reshape(3, 3, 2)
    new = -1 - np.arange(12).reshape(3, 2, 2)
    yield case("positions_after/lengths", flags="positions batch", lengths=lengths, T=2,
               slow=lambda lengths, T: [[n + t for t in range(T)] for n in lengths])
    yield case("place/lengths", flags="batch", cache=cache, new=new, lengths=lengths, slow=slow_place)
    yield case("place/empty", flags="empty", cache=cache[:, :0], new=new[:, :0], lengths=0 * lengths, slow=slow_place)
    yield case("last/lengths", flags="batch short", cache=cache, lengths=lengths, count=2, before=-7, slow=slow_last)
    yield case("last/nothing-yet", flags="empty", cache=cache[:, :0], lengths=0 * lengths, count=2, before=0,
               slow=slow_last)
    yield case("join/three", tokens=[np.array([[4], [5]]), np.array([[6], [7]])], batch=2,
               slow=lambda tokens, batch: [[4, 6], [5, 7]])
    yield case("join/none", flags="empty", tokens=[], batch=2, slow=lambda tokens, batch: [[], []])
    yield case("sample/greedy", flags="ties", logits=np.array([[0.0, 2.0, 2.0], [-1.0, -3.0, -1.0]]), temperature=0.0,
               rng=None, slow=lambda **_: [1, 0])


def slow_place(cache, new, lengths):
    """Place tokens like the definition, which keeps old values or zeros in the unspecified slots past a row's end."""
    slots = max(lengths.tolist(), default=0) + new.shape[1]
    grown = []
    for old, fresh, n in zip(cache.tolist(), new.tolist(), lengths.tolist(), strict=True):
        line = [old[s] if s < len(old) else [0] * cache.shape[2] for s in range(slots)]
        line[n : n + len(fresh)] = fresh
        grown.append(line)
    return grown


def slow_last(cache, lengths, count, before):
    blank = [before] * cache.shape[2]
    return [([blank] * count + row[:n])[-count:] for row, n in zip(cache.tolist(), lengths.tolist(), strict=True)]


def invalid():
    """Yield ids that addressing must refuse, in dialects with and without DEAD."""
    history = np.array([[4, 9, 5]])
    for title, config, wrong in (("id-past-the-end", V41, V41.canonical_size), ("id-below-dead", V41, DEAD - 1),
                                 ("dead-without-barrier", QWEN, DEAD), ("id-below-zero", QWEN, DEAD - 1)):
        yield case(f"addressing/{title}", outputs=(), flags="out-of-range", dialect=config.name, config=config,
                   canonical_ids=np.array([[3, wrong, 8]]), layer_id=config.layer_ids[0], flat=False,
                   history=history[:, : config.max_ngram - 1])
    yield case("addressing/history-past-the-end", outputs=(), flags="out-of-range history", config=V41,
               dialect=V41.name, canonical_ids=np.array([[3, 8]]), layer_id=1, flat=False,
               history=history + V41.canonical_size - 5)


AREA = (text, canonical, multipliers, prime_numbers, hashed, streams, prefixes, addressing, caches, invalid)
