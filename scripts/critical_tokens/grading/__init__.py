"""Whether an answer is right: the rules of the released code, the library math_verify, and how gold
answers are read.

It decides what the answer in a completion is, when two answers are equal, and which limits a
comparison has. It may import core.
"""
