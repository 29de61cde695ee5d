"""What a sample of pictures says about all pictures: intervals of rates and means, looks at growing samples, how many are needed.

Rates are plain arithmetic; means import scipy and numpy when they are asked.
"""
