"""The config: read as it is written, checked before any job starts, and completed.

It decides what a config may say and how a mistake in it is told. It may import core, data,
decoding, engines, models, objectives, training and workflow.
"""
