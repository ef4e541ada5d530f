"""Engines: what continues prefixes of token ids. `protocol` says what every engine does."""
