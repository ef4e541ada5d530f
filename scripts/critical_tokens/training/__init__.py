"""How a model is trained on an objective: examples, batches, the training loop, checkpoints.

It decides which batches make an update, so that the update is the same however its examples are
split into steps and processes. It may import core, data, models and objectives.
"""
