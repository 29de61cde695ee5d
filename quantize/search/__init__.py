"""Which layer gets which precision: picture errors measured, costs counted, a knapsack solved."""

if __name__ != "sprint_export.quantize.search":
    raise ImportError("import sprint_export.quantize.search, not the bare folder 'search'")
