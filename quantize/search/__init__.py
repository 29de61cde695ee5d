"""Which layer gets which precision: picture errors measured, costs counted, a knapsack solved."""
