"""Tables and figures from the results: estimates with intervals, Table 1, studies and figures.

It decides which interval and which test a number has, which example a figure shows, and how figures
look. It may import core, data and rollouts.
"""
