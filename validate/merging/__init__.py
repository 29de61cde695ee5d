"""Results of devices: what one gives as JSON (result.py), and many as one report (merge.py, table.py, page.py). No torch."""
