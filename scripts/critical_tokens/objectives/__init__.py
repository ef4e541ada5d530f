"""What a training minimises, as pure functions: losses, token weights and contrastive estimation
(paper, section 3).

It decides how a loss is computed from log-probabilities, where beta and gamma are applied, and what
a rejected token weighs. It may import core, data and models.
"""
