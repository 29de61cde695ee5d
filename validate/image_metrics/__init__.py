"""What can be measured of pictures: one file a metric, found by its file, as targets and families are."""
