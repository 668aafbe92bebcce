"""The Engram module and whole models: parameters, forward pass, state, generation, counts and importers."""
