"""Features and vectors become edits.

Finding them, applying them in value space, proving that they took effect.
"""
