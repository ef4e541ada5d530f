"""The pocket world: generated problems whose correct solutions are a known language, so the first
wrong token is exact.

It decides what a generated problem is, every correct wording of its solution, and which error a
wrong answer makes. It imports no other package.
"""
