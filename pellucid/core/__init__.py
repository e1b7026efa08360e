"""Errors, sites, digests, files and run folders: what every room shares.

Imports nothing of ours, and no torch.
"""
