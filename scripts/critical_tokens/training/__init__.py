"""How a model is trained on an objective: examples, batches, the loop, checkpoints and the adapter
that is written.

It decides that an update is the same however it is cut into steps and processes. It may import
core, data, models and objectives.
"""
