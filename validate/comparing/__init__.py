"""Several bundles, and outputs of other programs, beside one reference: same prompts, same noise, one ranked table.

entry.py        what can be compared, as a Protocol; entries/<kind>.py is one kind each, found by its file
drawing.py      pictures of all entries in turn, their seconds, what is wrong with a picture
figures.py      rows of an entry against the reference, and of each entry against the best
ranking.py      the order, and which entries no other beats in quality, latency and size together
comparison.py   what comes out, as JSON too (comparison.json)
compare.py      `compare_entries`, which does all of it
"""
