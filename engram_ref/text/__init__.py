"""Vocabularies: tokenizer files, and canonical maps that ship with the package."""
