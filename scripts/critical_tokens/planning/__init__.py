"""What jobs need, before they run: their work, the hardware, memory, time, and the plan of a run.

It decides how many GPUs, how much memory and how much time a job asks for. It may import core,
grading, models and workflow.
"""
