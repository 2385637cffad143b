"""How many GPUs, and when: the service as a discrete-event simulation, under bursts, a day and a night.

`python -m benchmarks.fleet --help`. Everything is in seconds and GPUs.
"""
