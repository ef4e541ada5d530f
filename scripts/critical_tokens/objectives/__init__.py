"""What training minimises: losses, token weights and contrastive scores (paper, section 3).

It decides how a loss is computed from log-probabilities, where beta and gamma are applied, and what
each token of a rejected answer weighs. It may import core, data and models.
"""
