"""What is made of the results: estimates with intervals, Table 1, summaries of studies, figures,
and packages of a cell.

It decides which interval and which test a number has, and how figures look. It may import core and
rollouts.
"""
