"""Graders of answers: `released` (the released code's rules, made safe) and `verify` (the library math_verify)."""
