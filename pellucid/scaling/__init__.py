"""Training runs become a law, a forecast with honest intervals, a plan and a price.

The room imports `core` alone, and needs numpy alone.
"""
