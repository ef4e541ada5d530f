"""What training minimises: losses and contrastive scores (paper, section 3).

It decides how a loss is computed from log-probabilities, and where beta and gamma are applied. It
may import core, data and models.
"""
