"""Writing, reading and describing artifacts; every other package builds on this one.

It decides the columns of every table, that a file is written completely or not at all, which hash
stands for the code of a program, how progress is reported, and how a repository of the Hugging Face
hub is checked and downloaded. It imports no other package.
"""
