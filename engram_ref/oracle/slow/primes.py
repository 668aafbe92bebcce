"""Table sizes: a distinct prime for every table of every layer."""


def is_prime(n):
    """Whether n is prime, by trial division by every odd number up to the square root."""
    if n < 2:
        return False
    if n % 2 == 0:
        return n == 2
    divisor = 3
    while divisor * divisor <= n:
        if n % divisor == 0:
            return False
        divisor += 2
    return True


def smallest_free_prime(start, taken):
    """Return the smallest prime that is at least `start` and not in `taken`."""
    candidate = start
    while candidate in taken or not is_prime(candidate):
        candidate += 1
    return candidate


def table_primes(table_sizes, n_heads, layer_count):
    """Return the primes per layer; columns are sorted by order, then by head.

    `table_sizes` has one nominal size per order, lowest order first. No prime is used twice, even in different layers.
    The search for each order starts at its nominal size, which is used if it is an unused prime.
    """
    taken = set()
    layers = []
    for _ in range(layer_count):
        columns = []
        for nominal in table_sizes:
            for _ in range(n_heads):
                prime = smallest_free_prime(nominal, taken)
                taken.add(prime)
                columns.append(prime)
        layers.append(columns)
    return layers


def offsets(primes):
    """Return the offset of each table of one layer in the concatenated tables."""
    return [sum(primes[:column]) for column in range(len(primes))]


def by_order(primes, n_heads):
    """Split the flat list of one layer's primes into one list per order."""
    return [primes[i : i + n_heads] for i in range(0, len(primes), n_heads)]
