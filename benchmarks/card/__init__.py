"""What benchmarks/unet.py, decode.py and job.py share: SVD-XT with random weights, clocks, counts, and the results."""
