"""Base models and their adapters: what their files hold, and how they are checked and loaded.

It decides which tokens end an answer, how long an input may be, how a GGUF file is converted, which
layers LoRA adapts, and on which corpus a pocket model is pretrained. It may import core, pocket and
data.
"""
