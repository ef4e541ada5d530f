"""Problems, prompts and the sets of answers that are trained on.

It decides where problems come from (a pocket world, a file, the hub, the authors' own files), how a
question becomes token ids, and which answers are the positive set, the negative set and the pairs.
It may import core, pocket and grading.
"""
