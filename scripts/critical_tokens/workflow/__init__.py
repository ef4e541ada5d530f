"""What connects rules and programs: flags, command-line arguments, selections, and refusals.

It decides what is made for a config, what a program understands, and how a mistake is reported. It
may import core, grading, data, models, decoding, engines, objectives, rollouts and training.
"""
