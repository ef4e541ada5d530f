"""The config: how its files are read, checked before any job starts, and completed.

It decides what a config may say and how a mistake in it is reported. It may import core, data,
decoding, engines, models, objectives, planning, training and workflow.
"""
