"""Sampling around a trajectory: branches, rollout scores, and the rule that makes a token critical
(paper, section 2).

It decides which prefixes are continued how often, what the score of a prefix is, and which token is
critical. It may import core, pocket, grading, data, models, decoding and engines.
"""
