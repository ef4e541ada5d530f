"""What connects rules and programs: flags, command-line arguments, sizes of jobs, and refusals.

It decides what a job asks for, what a program understands, and how a mistake is reported. It may
import core, grading, data, models, decoding, engines, objectives, rollouts and training.
"""
