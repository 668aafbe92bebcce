"""The stream of `numpy.random.default_rng(seed)`, computed with Python integers.

It combines three published algorithms: O'Neill's seed_seq-like entropy mixing, the PCG64 generator (XSL-RR, 128-bit
state) and Lemire's bounded draw.
"""

MASK32 = 2**32 - 1
MASK64 = 2**64 - 1
MASK128 = 2**128 - 1
PCG_STEP = (2549297995355413924 << 64) + 4865540595714422341


class WordHash:
    """A 32-bit hash whose constant changes with every word."""

    def __init__(self, start, factor):
        self.constant = start
        self.factor = factor

    def __call__(self, word):
        word ^= self.constant
        self.constant = self.constant * self.factor & MASK32
        word = word * self.constant & MASK32
        return word ^ word >> 16


def merge(x, y):
    """Fold the 32-bit word y into the 32-bit word x."""
    mixed = (0xCA01F9DD * x - 0x4973F715 * y) & MASK32
    return mixed ^ mixed >> 16


def words32(number):
    """Return the 32-bit words of a non-negative integer, lowest first; 0 gives [0]."""
    words = [number & MASK32]
    while number > MASK32:
        number >>= 32
        words.append(number & MASK32)
    return words


def entropy_pool(seed):
    """Mix every word of the seed into four 32-bit words."""
    entropy = words32(seed)
    hashed = WordHash(0x43B0D7E5, 0x931E8875)
    padded = entropy + [0] * (4 - len(entropy))
    pool = [hashed(word) for word in padded[:4]]
    for source in range(4):                     # mix every word into every other
        for target in range(4):
            if source != target:
                pool[target] = merge(pool[target], hashed(pool[source]))
    for word in entropy[4:]:                    # then add the remaining words of the seed
        for target in range(4):
            pool[target] = merge(pool[target], hashed(word))
    return pool


def seed_words(seed):
    """Draw four 64-bit words from the pool, the low half of each first."""
    pool = entropy_pool(seed)
    hashed = WordHash(0x8B51F9DD, 0x58F38DED)
    halves = [hashed(pool[i % 4]) for i in range(8)]
    return [halves[i] | halves[i + 1] << 32 for i in range(0, 8, 2)]


class Pcg64:
    """A 128-bit linear congruential generator with a rotated output."""

    def __init__(self, seed):
        state_high, state_low, stream_high, stream_low = seed_words(seed)
        stream = stream_high << 64 | stream_low
        self.increment = (stream << 1 | 1) & MASK128
        self.state = 0
        self.step()
        self.state = (self.state + (state_high << 64 | state_low)) & MASK128
        self.step()

    def step(self):
        self.state = (self.state * PCG_STEP + self.increment) & MASK128

    def next64(self):
        """Advance the state, XOR its halves, rotate by its top six bits."""
        self.step()
        folded = (self.state >> 64) ^ (self.state & MASK64)
        rotation = self.state >> 122
        return (folded >> rotation | folded << (64 - rotation)) & MASK64

    def below(self, bound):
        """Draw a uniform integer in [0, bound), for bounds above 2**32.

        A bound of 1 draws nothing. For bounds in between, NumPy uses 32-bit draws, which no preset needs.
        """
        if bound == 1:
            return 0
        if not 2**32 < bound < 2**64:
            raise ValueError(f"bound {bound} is outside the 64-bit path")
        threshold = 2**64 % bound
        product = self.next64() * bound
        while product & MASK64 < threshold:
            product = self.next64() * bound
        return product >> 64
