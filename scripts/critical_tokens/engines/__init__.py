"""The engines, which continue prefixes with a model, and their registry.

It decides how many rows are decoded at once, which way of decoding an architecture allows, and
which engine a name stands for. It may import core, models and decoding.
"""
