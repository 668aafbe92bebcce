"""The oracle: frozen answers, one comparator, and a runner that says where a port first differs."""
