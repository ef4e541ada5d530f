"""What every other package stands on: how artifacts are written and read, and how they say what
made them.

It decides the columns of every table, that a file is written whole or not at all, which hash stands
for the code of a program, how progress is reported, and how a repository of the Hugging Face hub is
asked and fetched. It imports no other package.
"""
