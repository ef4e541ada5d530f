"""The engines that continue prefixes, and the one place that opens them.

It decides how a model decodes many rows at once, which way of decoding an architecture allows, and
which engine a name stands for. It may import core, models and decoding.
"""
