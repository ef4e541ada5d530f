"""Whether an answer is correct, by the released code's rules and by the library math_verify.

It decides what the answer in a completion is, when two answers are equal, how gold answers are
read, and which limits a comparison has. It may import core.
"""
