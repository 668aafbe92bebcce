"""Ops that call no other op, as attributes of one class.

The classes with compositions derive from it, each from the previous one: Codecs, Tables, Linear, Norm, Gate, Conv,
Composite, Attention, Experts, Branches, then the gradients in ops/vjp. The last class is `Ops` in namespace.py.
"""

from engram_ref.ops import arrays, basic, caches, canonical, hashing, loss, primes, record, rope, sampling


class Small:
    """Functions that call no other op."""

    __slots__ = ()
    DEAD = canonical.DEAD
    ignore = staticmethod(record.ignore)

    # inspecting and converting arrays
    as_array = staticmethod(arrays.as_array)
    as_int64 = staticmethod(arrays.as_int64)
    check_together = staticmethod(arrays.check_together)
    constant = staticmethod(arrays.constant)
    dtype_name = staticmethod(arrays.dtype_name)
    first_non_finite = staticmethod(arrays.first_non_finite)
    to_numpy = staticmethod(arrays.to_numpy)
    writable = staticmethod(caches.writable)
    zeros = staticmethod(arrays.zeros)

    # basic operations
    add = staticmethod(basic.add)
    cast = staticmethod(basic.cast)
    einsum = staticmethod(basic.einsum)
    exp = staticmethod(basic.exp)
    multiply = staticmethod(basic.multiply)
    repeat = staticmethod(basic.repeat)
    reshape = staticmethod(basic.reshape)
    split = staticmethod(basic.split)
    stack = staticmethod(basic.stack)
    tail = staticmethod(basic.tail)
    take = staticmethod(basic.take)

    # tokens and rows
    canonical_key = staticmethod(canonical.canonical_key)
    canonical_map = staticmethod(canonical.canonical_map)
    canonicalise = staticmethod(canonical.canonicalise)
    check_ids = staticmethod(canonical.check_ids)
    column_offsets = staticmethod(primes.column_offsets)
    is_prime = staticmethod(primes.is_prime)
    mark_dead = staticmethod(canonical.mark_dead)
    mix = staticmethod(hashing.mix)
    next_history = staticmethod(hashing.next_history)
    normalise = staticmethod(canonical.normalise)
    pcg64_multipliers = staticmethod(hashing.pcg64_multipliers)
    splitmix64_multipliers = staticmethod(hashing.splitmix64_multipliers)
    table_primes = staticmethod(primes.table_primes)
    table_rows = staticmethod(hashing.table_rows)
    windows = staticmethod(hashing.windows)

    # positions, caches, loss, sampling
    angles = staticmethod(rope.angles)
    balance_loss = staticmethod(loss.balance_loss)
    cross_entropy = staticmethod(loss.cross_entropy)
    frequencies = staticmethod(rope.frequencies)
    half_split_order = staticmethod(rope.half_split_order)
    join = staticmethod(sampling.join)
    append = staticmethod(caches.append)
    last = staticmethod(caches.last)
    place = staticmethod(caches.place)
    positions_after = staticmethod(caches.positions_after)
    rotate = staticmethod(rope.rotate)
    sample = staticmethod(sampling.sample)
    softmax_scale = staticmethod(rope.softmax_scale)
    yarn_mscale = staticmethod(rope.yarn_mscale)
