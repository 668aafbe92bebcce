"""Table sizes: one distinct prime for every table of every layer."""


def is_prime(n):
    """Trial division by every odd number up to the square root."""
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
    """The smallest prime that is at least `start` and not in `taken`."""
    candidate = start
    while candidate in taken or not is_prime(candidate):
        candidate += 1
    return candidate


def table_primes(table_sizes, n_heads, layer_count):
    """Primes per layer, columns order by order and head by head.

    `table_sizes` has one nominal size for each order, lowest order first.
    No prime is given out twice, in any layer; every order searches from its
    own nominal size again, and a nominal size that is prime counts.
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
    """Where each table of one layer starts when they are laid end to end."""
    return [sum(primes[:column]) for column in range(len(primes))]


def by_order(primes, n_heads):
    """Cut one layer's flat list of primes into one list for each order."""
    return [primes[i : i + n_heads] for i in range(0, len(primes), n_heads)]
