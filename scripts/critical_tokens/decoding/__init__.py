"""What engines have in common: requests, distributions of the next token, random numbers, stopping.

It decides what a sample is, so that every engine draws from the same distribution, and which tokens
the prefixes of requests share. It may import core and data.
"""
