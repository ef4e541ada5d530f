"""Sampling around a trajectory: branches, rollout scores, critical tokens (paper, section 2).

It decides which prefixes are continued how often, what the score of a prefix is, and which token is
critical. It may import core, pocket, grading, data, models, decoding and engines.
"""
