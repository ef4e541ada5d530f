"""The pocket worlds: generated problems, for which the first wrong token of an answer is known.

It decides what a generated problem is, every correct wording of its solution, and which error a
wrong answer makes. It imports no other package.
"""
