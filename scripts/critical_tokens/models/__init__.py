"""Base models and their adapters: what their files hold, how they are loaded, and what is refused.

It decides which tokens end an answer, how long an input may be, which layers LoRA adapts, and what
a pocket model is trained on. It may import core, pocket and data.
"""
