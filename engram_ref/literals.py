"""The multipliers of the presets, as literals.

The generators of engram_ref.ops.hashing produce the same numbers. NumPy does not guarantee that its PCG64 stream never
changes, and a changed multiplier would silently re-address every row. The package therefore uses the literals, and the
tests compare them with the generators. An entry applies to one combination only: a different layer, seed or vocabulary
size has different multipliers. For a smaller N, the first N multipliers of an entry are used.
"""

MULTIPLIERS: dict[tuple[str, int, int, int], tuple[int, ...]] = {
    ("pcg64", 0, 1, 98_627): (76993395940407, 4862694818241, 36129212583461, 74336168021201),
    ("pcg64", 0, 2, 98_627): (76868182044803, 37272711521967, 22754161933167, 71761299653263),
    ("pcg64", 0, 15, 98_627): (29055444938695, 56284491166079, 54183298291715, 33095471667075),
    ("pcg64", 0, 1, 99_092): (76632096046245, 4839876093313, 35959672319349, 73987337458391),
    ("pcg64", 0, 2, 99_092): (76507469730479, 37097805264573, 22647385550623, 71424551940645),
    ("pcg64", 0, 14, 99_092): (67716810739261, 51510806800915, 30921347202721, 82619226485591),
    ("splitmix64", 1234, 0, 248_320): (23703573157769, 20109073645365, 8052911324071),
}
"""(generator, seed, index, canonical size) -> the multipliers of one layer, newest token first.

The index is the layer id; for splitmix64, it is the layer's position in the list of layers, from 0."""
