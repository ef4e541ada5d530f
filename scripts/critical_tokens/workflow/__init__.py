"""What rules and programs share: flags on one side, arguments on the other, the size of a job, and
how mistakes are told.

It decides what a job asks for and what a program understands. It may import core, grading, data,
models, decoding, engines, objectives and training.
"""
