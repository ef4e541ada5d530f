"""Problems, prompts and the sets of answers for training.

It decides where problems come from (a pocket world, a file, or the hub), how the authors' own files
are read, how a question becomes token ids, and which answers form the positive set, the negative
set and the pairs. It may import core, pocket and grading.
"""
