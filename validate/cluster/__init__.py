"""A validation's pictures drawn by the workers of a Ray cluster: job.py is what one worker does, pool.py hands out shards."""
