"""How a model is trained on an objective: examples, token weights, batches, the loop, checkpoints.

It decides what each token of a rejected answer weighs and which batches make an update, which is
the same however its examples are split into steps and processes. It may import core, data, models
and objectives.
"""
