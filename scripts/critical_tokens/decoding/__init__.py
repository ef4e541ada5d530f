"""What an engine is asked for: requests, the distribution of the next token, random numbers, and
where an answer ends.

It decides what a sample is, so that every engine draws from the same distribution. It may import
core and data.
"""
