"""Vocabularies: tokenizer files, and the canonical maps that ship with the package."""
